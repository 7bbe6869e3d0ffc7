"""A storm over the real thing: ``python -m tests.chaos``. Nothing lost, nothing twice, nothing stuck."""
