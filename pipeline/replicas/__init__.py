"""The host's side of the model's processes: starts them, sends batches, judges failures, replaces processes."""
