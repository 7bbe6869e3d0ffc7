"""Fakes of the pipeline's ports and of time, for our tests and for users' tests. They keep the ports' promises.

    from pipeline.testing import FakeJudge, FakeSink            # a model host and a sink under the test's control
    from pipeline.testing import FakeReplica                    # a replica without a process, for a real ModelHost
    from pipeline.testing import SimulatedLoop, Simulation      # simulated minutes in real milliseconds

:mod:`consumer.testing` has fakes of KCL, its leases and its stream; :mod:`pipeline.stores.memory` an object store.
"""

from pipeline.testing.fake_ports import FakeJudge, FakeSink, FakeWriter, dead, enriched
from pipeline.testing.fake_replica import FakeReplica
from pipeline.testing.simulated_loop import SimulatedLoop, Stuck
from pipeline.testing.simulated_time import Process, Simulation, Vanished

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
