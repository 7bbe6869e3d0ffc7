"""The model host with real replicas: outcomes of good and bad records."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Fatal
from pipeline.events import DeadLettered, OutOfMemory, Predicted, ReplicaReplaced, Retried
from pipeline.record import Enriched, Record
from pipeline.replicas.host import ModelHost
from tests.support.hosts import batch, death, expect_all_but, hosted, judged, record, settings, value


def calls_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


def restarts(events: list[Any]) -> list[str]:
    return [event.reason for event in events if isinstance(event, ReplicaReplaced)]


def test_every_record_gets_its_own_row() -> None:
    records = batch(50)
    events = judged(records)
    expect_all_but(records, set())
    assert [event.records for event in events if isinstance(event, Predicted)] == [50]
    assert not [event for event in events if isinstance(event, Retried | DeadLettered | ReplicaReplaced)]


def test_carried_fields_come_first_and_missing_ones_are_null() -> None:
    records = [record(1, user="ann", age=7), record(2, user=None)]
    judged(records, passthrough={"user": "string", "age": "int64", "at": "timestamp"})
    assert records[0].outcome.table.schema.names == ["user", "age", "at", "n", "x"]  # type: ignore[union-attr]
    assert [value(records[0], name) for name in ("user", "age", "at")] == ["ann", 7, None]
    assert [value(records[1], name) for name in ("user", "age", "at")] == [None, None, None]


@pytest.mark.parametrize(
    ("payload", "kind", "reason"),
    [
        (b"", "decode", "payload is not JSON"),
        (b'{"text": "\xff"}', "decode", "payload is not JSON"),
        (b"[1]", "decode", "not an object"),
        (b'{"age": "seven"}', "decode", "passthrough field 'age' is a str that is not a valid int64"),
        (b'{"do": "reject"}', "rejected", "not to my taste"),
        (b'{"do": "nan"}', "not_finite", "column 'x' is not finite"),
        (b'{"do": "inf"}', "not_finite", "column 'x' is not finite"),
        (b'{"do": "no column"}', "contract", "there is no column 'x'"),
        (b'{"do": "text"}', "contract", "column 'n' is not int64"),
        (b'{"do": "no mapping"}', "contract", "returned a str for this record"),
    ],
)
def test_a_record_that_cannot_be_enriched_costs_no_further_predict(payload: bytes, kind: str, reason: str) -> None:
    records = batch(8)
    records[3].data = payload
    events = judged(records, passthrough={"age": "int64"}, not_finite="reject")
    expect_all_but(records, {3})
    assert reason in death(records[3]).reason
    assert (death(records[3]).kind, death(records[3]).attempts) == (kind, 1)
    assert not [event for event in events if isinstance(event, Retried)]


@pytest.mark.parametrize(
    ("action", "reason"),
    [("raise", r"ValueError: no such \ud800 luck"), ("leave", "SystemExit"), ("leave out", "0 results for 1 record")],
)
def test_a_record_that_fails_its_batch_is_found(action: str, reason: str, tmp_path: Path) -> None:
    records = batch(64, {37: action})
    judged(records, options={"calls": str(tmp_path / "calls")}, retries=2)
    expect_all_but(records, {37})
    assert death(records[37]).reason.endswith(reason)
    assert death(records[37]).attempts == 3
    calls = calls_in(tmp_path / "calls")
    assert calls.count(1) >= 3
    assert len(calls) - 1 <= math.log2(64) + 2 + 2


def test_an_exception_keeps_its_traceback() -> None:
    records = batch(2, {1: "raise"})
    judged(records)
    assert "in fail" in death(records[1]).traceback


def test_a_failure_that_passes_costs_a_retry_and_no_record(tmp_path: Path) -> None:
    records = [record(0, do="once", mark=str(tmp_path / "mark"))]
    events = judged(records)
    expect_all_but(records, set())
    assert events.count(Retried()) == 1


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("exit", "replica exited with code 3"),
        ("segfault", "replica killed by signal 11"),
        ("abort", "replica killed by signal 6"),
        ("be killed", "replica killed by signal 9"),
        ("leave child", "replica exited with code 3"),
        ("lose device", "replica lost its device: RuntimeError: CUDA error: device-side assert triggered"),
    ],
)
def test_a_record_that_takes_the_replica_along_is_dead_and_no_other(action: str, reason: str) -> None:
    records = batch(6, {4: action})
    events = judged(records)
    expect_all_but(records, {4})
    assert (death(records[4]).reason, death(records[4]).kind) == (reason, "died")
    assert death(records[4]).attempts == 2
    assert events.count(DeadLettered("died")) == 1
    assert len(restarts(events)) == 3


@pytest.mark.parametrize("action", ["hang", "stop python"])
def test_a_record_that_hangs_is_timed_out(action: str) -> None:
    records = batch(3, {1: action})
    events = judged(records, timeout_s=1.0, retries=0)
    expect_all_but(records, {1})
    assert (death(records[1]).reason, death(records[1]).kind) == ("replica timed out after 1 s", "timeout")
    assert death(records[1]).attempts == 1
    assert restarts(events) == ["timed out after 1 s"] * 2


def test_each_request_has_the_whole_time() -> None:
    batches = [batch(1, {0: "slow"}) for _ in range(5)]

    async def body(host: ModelHost) -> None:
        await asyncio.gather(*(host.settle(records) for records in batches))

    assert not restarts(hosted(body, timeout_s=0.7, retries=0))
    for records in batches:
        expect_all_but(records, set())


def test_a_replica_killed_from_outside_costs_no_record() -> None:
    records = batch(10, {2: "slow"})

    async def body(host: ModelHost) -> None:
        judging = asyncio.create_task(host.settle(records))
        await asyncio.sleep(0)
        os.kill(host.pids[0], signal.SIGKILL)
        await judging

    events = hosted(body)
    expect_all_but(records, set())
    assert restarts(events) == ["killed by signal 9"]


@pytest.mark.parametrize("action", ["exit", "lose device"])
def test_a_batch_queued_behind_a_deadly_one_is_not_a_suspect(action: str, tmp_path: Path) -> None:
    deadly, behind = batch(2, {0: action}), batch(5)

    async def body(host: ModelHost) -> None:
        assert host.slots == 2
        await asyncio.gather(host.settle(deadly), host.settle(behind))

    hosted(body, options={"calls": str(tmp_path / "calls")}, retries=0)
    expect_all_but(deadly, {0})
    expect_all_but(behind, set())
    assert calls_in(tmp_path / "calls").count(5) == 1


def test_out_of_memory_halves_the_batch_until_it_fits(tmp_path: Path) -> None:
    records = [record(n, do="memory", fits=4) for n in range(16)]
    events = judged(records, options={"calls": str(tmp_path / "calls")})
    expect_all_but(records, set())
    assert calls_in(tmp_path / "calls") == [16, 8, 4, 8, 4, 4, 4]
    assert [event.records for event in events if isinstance(event, OutOfMemory)] == [16, 8, 8]


def test_a_record_that_never_fits_is_dead() -> None:
    records = [record(0), record(1, do="memory", fits=0), record(2)]
    judged(records)
    expect_all_but(records, {1})
    assert (death(records[1]).reason, death(records[1]).kind) == ("MemoryError", "memory")
    assert death(records[1]).attempts == 2


def test_a_fatal_error_of_the_model_blames_no_record() -> None:
    records = batch(2, {1: "fatal"})
    with pytest.raises(Fatal, match="the weights are gone"):
        judged(records)
    assert [record.outcome for record in records] == [None, None]


def test_a_batch_goes_to_the_replica_that_has_least_to_do() -> None:
    batches = [batch(1), batch(1)]

    async def body(host: ModelHost) -> None:
        await asyncio.gather(*(host.settle(records) for records in batches))

    hosted(body, "Environment", replicas=2)
    assert value(batches[0][0], "session") != value(batches[1][0], "session")


def test_several_replicas_share_the_work_and_outlive_each_other() -> None:
    batches = [batch(4, {3: "exit"} if number == 2 else None) for number in range(8)]

    async def body(host: ModelHost) -> None:
        assert (host.replicas_alive, host.slots) == (2, 4)
        await asyncio.gather(*(host.settle(records) for records in batches))

    hosted(body, replicas=2)
    for number, records in enumerate(batches):
        expect_all_but(records, {3} if number == 2 else set())


def test_the_output_of_a_model_is_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    records = batch(1, {0: "say"})
    with caplog.at_level(logging.INFO, "replica"):
        judged(records)
    lines = [entry.getMessage() for entry in caplog.records if entry.name == "replica"]
    assert {"said on stdout", "said on stderr"} <= set(lines)


def test_numpy_rows_become_lists_and_their_nan_is_found() -> None:
    records = [record(0, fill=1.5), record(1, fill="nan")]
    judged(records, "Embedding", not_finite="reject")
    assert value(records[0], "vector") == [1.5] * 4
    assert death(records[1]).kind == "not_finite"


def test_nan_is_a_value_unless_it_is_refused() -> None:
    records = batch(2, {1: "nan"})
    judged(records)
    assert math.isnan(value(records[1], "x"))


def test_a_payload_of_a_megabyte_each_goes_through() -> None:
    records = [record(n, text="x" * 1_000_000) for n in range(20)]
    judged(records, passthrough={"text": "string"})
    expect_all_but(records, set())
    assert len(value(records[19], "text")) == 1_000_000


def measured(records: list[Record], model: str) -> None:
    async def body(host: ModelHost) -> None:
        await host.measure(records)

    hosted(body, model)


def test_costs_are_measured_and_bad_records_singled_out() -> None:
    trouble = {3: "exit", 5: "reject", 7: "text"}
    records = [record(n, **({"measure": trouble[n]} if n in trouble else {})) for n in range(10)]
    records[9].data = b"{"
    measured(records, "Measured")
    assert [record.cost for record in records if record.outcome is None] == [1, 1, 2, 4, 6, 8]
    assert death(records[3]).reason == "replica exited with code 4"
    assert death(records[5]).reason == "too long"
    assert death(records[7]).reason == "TypeError: cost returned 'long', not a whole number"
    assert "not JSON" in death(records[9]).reason


def test_a_model_without_its_own_cost_is_not_measured() -> None:
    records = [record(5)]
    measured(records, "Toy")
    assert records[0].cost == 1


@pytest.mark.parametrize("method", ["decode", "predict"])
def test_a_replica_survives_any_exception_and_any_number_of_bad_records(method: str) -> None:
    whats = ["silent", "liar", "enormous", "circle of causes", "surrogates", "system exit", "interrupt", "base"]
    hostile = [record(n, bad=1, what=what) for n, what in enumerate(whats)]
    misfits = [record(n, answer="no number") for n in range(64)]
    good = [record(n) for n in range(4)]
    events: list[Any] = []

    async def main() -> None:
        options = {"method": method, "what": "silent"}
        host = ModelHost(
            replace(settings(), factory="tests.support.hostile_exceptions:Raising", options=options),
            on_event=events.append,
        )
        await host.start()
        for each in (good, misfits, hostile):
            await host.settle(each)
        await host.stop()

    asyncio.run(main())
    assert all(isinstance(each.outcome, Enriched) for each in good)
    assert {death(each).kind for each in misfits} == {"contract"}
    assert {death(each).kind for each in hostile} == {"decode" if method == "decode" else "exception"}
    assert not [event for event in events if isinstance(event, ReplicaReplaced)]
