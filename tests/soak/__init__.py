"""SIGTERM at random times, for batches of 0.1 to 30 s: ``python -m tests.soak``."""
