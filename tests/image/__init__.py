"""``make image-test``: the image as a task runs it, on a read-only root, told to leave, and what its layers weigh."""
