"""Faults on real workers for some minutes: ``python -m tests.chaos``. Nothing is lost, duplicated or stuck."""
