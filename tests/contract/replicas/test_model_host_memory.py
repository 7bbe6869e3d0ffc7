"""The model host with real replicas whose memory is limited."""

from __future__ import annotations

import json
import resource
import struct
from pathlib import Path
from typing import Any

import pytest

from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.errors import ModelError
from pipeline.events import OutOfMemory, ReplicaReplaced, SafeCostLearned
from pipeline.record import Record
from pipeline.replicas.host import ModelHost
from tests.support.hosts import batch, death, expect_all_but, expect_threads, hosted, judged, record, until

LIMIT_MIB = 256
"""Memory in MiB that a replica of these tests needs at first is about 30."""


def hungry(count: int, mib: int = 16, large: dict[int, int] | None = None, **more: Any) -> list[Record]:
    """Records that take ``mib`` each in the model, except those in ``large``."""
    return [record(n, mib=(large or {}).get(n, mib), **more) for n in range(count)]


def calls_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


def write_weights(path: Path, mib: int) -> Path:
    """One tensor of zeros in a sparse file, which takes no disk space."""
    size = mib * 1024 * 1024
    header = json.dumps({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(file.tell() + size)
    return path


@pytest.mark.parametrize("model", ["Hungry", "HungryDecoder"])
def test_a_batch_that_does_not_fit_is_halved_and_that_is_remembered(model: str, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    records, later = hungry(16), hungry(20)
    costs: list[int] = []

    async def body(host: ModelHost) -> None:
        await host.settle(records)
        costs.append(host.safe_cost)
        batcher = Batcher(max_records=16, max_cost=0, linger_s=0)
        batcher.add("shard", later, 0.0)
        while len(batcher):
            batcher.follow(BatchPlan(cost=host.safe_cost))
            await host.settle(batcher.take(0.0))

    events = hosted(body, model, memory_mib=LIMIT_MIB, options={"calls": str(calls)})
    expect_all_but(records, set())
    expect_all_but(later, set())
    assert costs == [8]
    assert [size for size in calls_in(calls) if size <= 8] == [8, 8, 8, 8, 4]
    assert [event.records for event in events if isinstance(event, OutOfMemory)] == [16]
    assert [event.cost for event in events if isinstance(event, SafeCostLearned)] == [8]
    assert not [event for event in events if isinstance(event, ReplicaReplaced)]


def test_a_record_that_does_not_fit_by_itself_is_dead_and_teaches_little(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    records = hungry(8, mib=1, large={2: 400})
    costs: list[int] = []

    async def body(host: ModelHost) -> None:
        await host.settle(records)
        costs.append(host.safe_cost)

    hosted(body, "Hungry", memory_mib=LIMIT_MIB, options={"calls": str(calls)})
    expect_all_but(records, {2})
    assert (death(records[2]).kind, death(records[2]).reason) == ("memory", "MemoryError")
    assert death(records[2]).attempts == 2
    assert calls_in(calls) == [8, 4, 2, 4, 2, 1, 1, 1, 1, 5]  # each of its two tries is made on a new replica, too
    assert costs == [5]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_replica_that_leaks_is_replaced_and_blames_no_record(replicas: int) -> None:
    batches = [batch(2) for _ in range(7)]  # five fit into a replica

    async def body(host: ModelHost) -> None:
        first = host.pids
        for records in batches:
            await host.settle(records)
        await until(lambda: len(host.pids) == replicas and host.pids != first)

    events = hosted(body, "Leaky", memory_mib=LIMIT_MIB, retries=0, replicas=replicas)
    for records in batches:
        expect_all_but(records, set())
    reasons = {event.reason for event in events if isinstance(event, ReplicaReplaced)}
    assert reasons == {"ran out of memory with a single record"}


def test_memory_that_a_library_takes_for_granted_costs_the_record_its_replica() -> None:
    records = [*hungry(3, mib=1), record(3, mib=400, by="c")]
    judged(records, "Hungry", memory_mib=LIMIT_MIB, retries=0)
    expect_all_but(records, {3})
    assert (death(records[3]).kind, death(records[3]).reason) == ("died", "replica killed by signal 11")


def test_weights_that_are_mapped_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """512 MiB of weights that each predict reads, with a limit of 400; other memory of torch counts.

    The model imports torch when it is loaded, and has its threads, too.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    weights = write_weights(tmp_path / "model.safetensors", 512)
    large, small = record(0, mib=450), hungry(3, mib=1)

    async def body(host: ModelHost) -> None:
        await host.settle([large])
        await host.settle(small)

    hosted(body, "Mapped", memory_mib=400, options={"weights": str(weights)}, retries=0, threads=2)
    assert death(large).kind == "memory"
    assert "can't allocate memory" in death(large).reason
    expect_all_but(small, set())
    expect_threads(small[0], 2)


def test_a_model_that_leaves_too_little_memory_is_reported_at_start() -> None:
    with pytest.raises(
        ModelError, match=r"model.memory_mib: the loaded model takes 1\d\d of the 128 MiB that a replica"
    ):
        judged([], "Hungry", memory_mib=128, options={"at_load": 100})


def test_every_replica_is_limited_also_the_one_that_measures() -> None:
    def check(pid: int) -> None:
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
        assert resource.prlimit(pid, resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY

    async def body(host: ModelHost) -> None:
        predicts, measures = host.pids
        check(predicts)
        check(measures)

    hosted(body, "Measured", memory_mib=LIMIT_MIB)
