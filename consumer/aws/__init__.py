"""Clients of AWS, and plain calls to Kinesis."""
