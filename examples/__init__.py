"""Example models, each with a configuration, to copy from."""
