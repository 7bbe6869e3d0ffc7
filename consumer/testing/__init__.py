"""Fakes of all that stands around a session: KCL's side of the protocol, its workers and leases, and the stream.

    from consumer.testing import FakeKcl, row                        # one shard's KCL, which obeys a hand
    from consumer.testing import FakeLeases, FakeStream, FakeWorker  # a whole KCL, which lives by itself

They live on any event loop; on :class:`pipeline.testing.SimulatedLoop` their minutes take milliseconds.
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
