"""Kinesis Data Streams as a pure engine: no clock and no I/O, ``now_ms`` is an argument of every call."""
