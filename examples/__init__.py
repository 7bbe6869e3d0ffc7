"""Example models, each with a configuration: what users copy from."""
