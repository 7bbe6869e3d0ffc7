"""A Kinesis consumer on the Amazon KCL: leases, sessions, checkpoints, operations.

Start reading at :mod:`consumer.app`.
"""
