"""Fakes of the pipeline's ports and of time, for tests of ours and of users. They keep the ports' promises.

    from pipeline.testing import FakeJudge, FakeSink            # a model host and a sink that obey a hand
    from pipeline.testing import FakeReplica                    # a replica without a process, for a real ModelHost
    from pipeline.testing import SimulatedLoop, Simulation      # simulated minutes in real milliseconds

KCL, its leases and its stream are in :mod:`consumer.testing`, an object store in memory in :mod:`pipeline.stores.base`.
"""

from pipeline.testing.fake_ports import FakeJudge, FakeSink, FakeWriter, dead, enriched
from pipeline.testing.fake_replica import FakeReplica
from pipeline.testing.simulated_time import Process, SimulatedLoop, Simulation, Stuck, Vanished

__all__ = [
    "FakeJudge",
    "FakeReplica",
    "FakeSink",
    "FakeWriter",
    "Process",
    "SimulatedLoop",
    "Simulation",
    "Stuck",
    "Vanished",
    "dead",
    "enriched",
]
