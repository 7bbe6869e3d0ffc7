"""The model host with real replicas: outcomes of good and bad records."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Fatal
from pipeline.events import DeadLettered, OutOfMemory, Predicted, ReplicaReplaced, Retried
from pipeline.record import Enriched
from pipeline.replicas.host import ModelHost
from tests.support.hosts import (
    CARRIED,
    LivingHost,
    batch,
    death,
    expect_all_but,
    judged,
    record,
    settings,
    until,
    value,
)


def test_every_record_gets_its_own_row(plain: LivingHost) -> None:
    records = batch(50)
    events = plain.judged(records)
    expect_all_but(records, set())
    assert [event.records for event in events if isinstance(event, Predicted)] == [50]
    assert not [event for event in events if isinstance(event, Retried | DeadLettered | ReplicaReplaced)]


def test_carried_fields_come_first_and_missing_ones_are_null(strict: LivingHost) -> None:
    records = [record(1, user="ann", age=7), record(2, user=None)]
    strict.judged(records)
    assert records[0].outcome.table.schema.names == ["user", "age", "at", "n", "x"]  # type: ignore[union-attr]
    assert [value(records[0], name) for name in CARRIED] == ["ann", 7, None]
    assert [value(records[1], name) for name in CARRIED] == [None, None, None]


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
def test_a_record_that_cannot_be_enriched_costs_no_further_predict(
    strict: LivingHost, payload: bytes, kind: str, reason: str
) -> None:
    records = batch(8)
    records[3].data = payload
    events = strict.judged(records)
    expect_all_but(records, {3})
    assert reason in death(records[3]).reason
    assert (death(records[3]).kind, death(records[3]).attempts) == (kind, 1)
    assert not [event for event in events if isinstance(event, Retried)]


@pytest.mark.parametrize(
    ("action", "reason"),
    [("raise", r"ValueError: no such \ud800 luck"), ("leave", "SystemExit"), ("leave out", "0 results for 1 record")],
)
def test_a_record_that_fails_its_batch_is_found(strict: LivingHost, action: str, reason: str) -> None:
    records = batch(64, {37: action})
    strict.judged(records)
    expect_all_but(records, {37})
    assert death(records[37]).reason.endswith(reason)
    assert death(records[37]).attempts == 3
    assert strict.calls.count(1) >= 3
    assert len(strict.calls) - 1 <= math.log2(64) + 2 + 2


def test_an_exception_keeps_its_traceback(plain: LivingHost) -> None:
    records = batch(2, {1: "raise"})
    plain.judged(records)
    assert "in fail" in death(records[1]).traceback


def test_a_failure_that_passes_costs_a_retry_and_no_record(plain: LivingHost, tmp_path: Path) -> None:
    records = [record(0, do="once", mark=str(tmp_path / "mark"))]
    events = plain.judged(records)
    expect_all_but(records, set())
    assert events.count(Retried()) == 1


def test_a_replica_stays_when_the_task_gets_sigterm(plain: LivingHost) -> None:
    records = batch(4, {0: "slow"})

    async def body(host: ModelHost) -> None:
        before = host.pids
        os.kill(before[0], signal.SIGTERM)
        os.kill(before[0], signal.SIGINT)
        await host.settle(records)
        assert host.pids == before

    plain.hosted(body)
    expect_all_but(records, set())


def test_out_of_memory_halves_the_batch_until_it_fits(plain: LivingHost) -> None:
    records = [record(n, do="memory", fits=4) for n in range(16)]
    events = plain.judged(records)
    expect_all_but(records, set())
    assert plain.calls == [16, 8, 4, 8, 4, 4, 4]
    assert [event.records for event in events if isinstance(event, OutOfMemory)] == [16, 8, 8]


def test_a_record_that_never_fits_is_dead(plain: LivingHost) -> None:
    records = [record(0), record(1, do="memory", fits=0), record(2)]
    plain.judged(records)
    expect_all_but(records, {1})
    assert (death(records[1]).reason, death(records[1]).kind) == ("MemoryError", "memory")
    assert death(records[1]).attempts == 2


def test_a_fatal_error_of_the_model_blames_no_record(plain: LivingHost) -> None:
    records = batch(2, {1: "fatal"})
    with pytest.raises(Fatal, match="the weights are gone"):
        plain.judged(records)
    assert [record.outcome for record in records] == [None, None]


def test_the_output_of_a_model_is_logged_line_by_line(plain: LivingHost, caplog: pytest.LogCaptureFixture) -> None:
    records = batch(1, {0: "say"})

    def logged() -> bool:
        lines = [entry.getMessage() for entry in caplog.records if entry.name == "replica"]
        return {"said on stdout", "said on stderr"} <= set(lines)

    async def body(host: ModelHost) -> None:
        await host.settle(records)
        await until(logged)

    with caplog.at_level(logging.INFO, "replica"):
        plain.hosted(body)


def test_numpy_rows_become_lists_and_their_nan_is_found() -> None:
    records = [record(0, fill=1.5), record(1, fill="nan")]
    judged(records, "Embedding", not_finite="reject")
    assert value(records[0], "vector") == [1.5] * 4
    assert death(records[1]).kind == "not_finite"


def test_nan_is_a_value_unless_it_is_refused(plain: LivingHost) -> None:
    records = batch(2, {1: "nan"})
    plain.judged(records)
    assert math.isnan(value(records[1], "x"))


def test_a_payload_of_a_megabyte_each_goes_through(strict: LivingHost) -> None:
    records = [record(n, user="x" * 1_000_000) for n in range(20)]
    strict.judged(records)
    expect_all_but(records, set())
    assert len(value(records[19], "user")) == 1_000_000


def test_the_specification_describes_the_model(measuring: LivingHost) -> None:
    assert measuring.spec.row_schema.names == ["user", "n", "x"]
    assert (measuring.spec.measures, measuring.spec.pads) == (True, True)


def test_every_replica_is_the_first_that_the_kernel_takes_and_is_not_limited_unless_told(
    measuring: LivingHost,
) -> None:
    predicts, measures = measuring.host.pids
    for pid in (predicts, measures):
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
        assert resource.prlimit(pid, resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


def test_costs_are_measured_and_bad_records_singled_out(measuring: LivingHost) -> None:
    trouble = {3: "exit", 5: "reject", 7: "text"}
    records = [record(n, **({"measure": trouble[n]} if n in trouble else {})) for n in range(10)]
    records[9].data = b"{"
    measuring.hosted(lambda host: host.measure(records))
    assert [record.cost for record in records if record.outcome is None] == [1, 1, 2, 4, 6, 8]
    assert death(records[3]).reason == "replica exited with code 4"
    assert death(records[5]).reason == "too long"
    assert death(records[7]).reason == "TypeError: cost returned 'long', not a whole number of at least 1"
    assert "not JSON" in death(records[9]).reason


def test_a_model_without_its_own_cost_is_not_measured(plain: LivingHost) -> None:
    records = [record(5)]
    plain.hosted(lambda host: host.measure(records))
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
