"""Fakes of everything around a session: KCL's side of the protocol, its workers and leases, and the stream.

    from consumer.testing import FakeKcl, row                        # KCL for one shard, driven by the test
    from consumer.testing import FakeLeases, FakeStream, FakeWorker  # a complete KCL that runs by itself

They run on any event loop. On :class:`pipeline.testing.SimulatedLoop`, minutes take milliseconds.
"""

from consumer.testing.aggregates import aggregate
from consumer.testing.fake_kcl import FakeKcl, ProtocolBroken, row
from consumer.testing.fake_leases import SHARD_END, FakeLease, FakeLeases
from consumer.testing.fake_stream import FakeStream, Read, Throttled
from consumer.testing.fake_worker import FakeWorker, Timing

__all__ = [
    "SHARD_END",
    "FakeKcl",
    "FakeLease",
    "FakeLeases",
    "FakeStream",
    "FakeWorker",
    "ProtocolBroken",
    "Read",
    "Throttled",
    "Timing",
    "aggregate",
    "row",
]
