"""Any exception of a model, from any method, becomes a dead letter or one line, and does not end the replica."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dead_letters.redaction import where
from pipeline.errors import ModelError, cut, one_line, plain
from pipeline.events import ReplicaReplaced
from pipeline.model_process import frames, memory_limit
from pipeline.model_process.starting import start
from pipeline.model_process.worker import fault_of
from pipeline.record import Dead, Enriched, Record
from pipeline.replicas.answers import TEXT_LIMIT
from pipeline.replicas.host import ModelHost
from pipeline.testing import FakeReplica, SimulatedLoop
from pipeline.testing.model_settings import assignment, host_settings
from pipeline.tracebacks import traced
from tests.support import hostile_exceptions as hostile
from tests.support.hosts import record

BAD = 1
"""Which of four records is bad."""

exceptions = pytest.mark.parametrize("what", hostile.EXCEPTIONS)
refusals = pytest.mark.parametrize("what", hostile.REFUSALS)


def judged(model: str, method: str, what: str, records: Sequence[Record]) -> int:
    """How many replicas were replaced."""
    events: list[Any] = []

    async def main() -> None:
        settings = host_settings(
            f"tests.support.hostile_exceptions:{model}", "1", 1, 1, options={"method": method, "what": what}
        )
        host = ModelHost(settings, on_event=events.append, link=FakeReplica)
        await host.start()
        await host.measure(records)
        if waiting := [each for each in records if each.outcome is None]:
            await host.settle(waiting)
        await host.stop()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())
    return sum(isinstance(event, ReplicaReplaced) for event in events)


def batch(mark: str = "yes", of: Sequence[int] = (BAD,)) -> list[Record]:
    return [record(n, **({"bad": mark} if n in of else {})) for n in range(4)]


def dead(records: Sequence[Record], kind: str) -> Dead:
    """The bad record, with a reason that is not empty."""
    assert all(isinstance(each.outcome, Enriched) for n, each in enumerate(records) if n != BAD)
    outcome = records[BAD].outcome
    assert isinstance(outcome, Dead)
    assert (outcome.kind, outcome.payload) == (kind, records[BAD].data)
    assert outcome.reason.strip() and len(outcome.reason) <= 1_100
    outcome.reason.encode()
    outcome.traceback.encode()
    return outcome


@exceptions
@pytest.mark.parametrize(("method", "kind"), [("decode", "decode"), ("predict", "exception")])
def test_an_error_of_a_record_is_its_dead_letter(method: str, kind: str, what: str) -> None:
    records = batch()
    assert judged("Raising", method, what, records) == 0
    outcome = dead(records, kind)
    assert outcome.traceback and outcome.where.endswith(" in fail")


@exceptions
def test_an_error_of_cost_is_a_dead_letter(what: str) -> None:
    records = batch(what)
    assert judged("Costly", "", what, records) == 0
    assert dead(records, "decode").traceback


@refusals
@pytest.mark.parametrize(("method", "kind"), [("decode", "decode"), ("predict", "rejected")])
def test_a_refusal_is_a_refusal_for_any_reason(method: str, kind: str, what: str) -> None:
    records = batch()
    assert judged("Raising", method, what, records) == 0
    assert not dead(records, kind).traceback


@exceptions
def test_nothing_depends_on_a_close(what: str) -> None:
    records = batch(of=())
    assert judged("Raising", "close", what, records) == 0
    assert all(isinstance(each.outcome, Enriched) for each in records)


@exceptions
def test_an_example_that_fails_later_is_answered(what: str) -> None:
    given = {"method": "later example", "what": what}
    _, work = start(assignment("predict", "tests.support.hostile_exceptions:Raising", options=given))
    assert work is not None
    for op in ("example", frames.BESIDE_EXAMPLE):
        head, *_ = work.answer(frames.Frame(op, {"sizes": []}, memoryview(b"")))
        assert b'"op":"failed"' in head


@pytest.mark.parametrize("what", [*hostile.EXCEPTIONS, *hostile.REFUSALS, *hostile.ENDS])
@pytest.mark.parametrize("method", ["load", "example", "making it"])
def test_a_model_that_cannot_start_says_so_in_a_line(method: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = "Raising"
    if method == "making it":
        model = "Astray"
        monkeypatch.setattr(hostile.Astray, "what", what)
    with pytest.raises(ModelError) as told:
        judged(model, method, what, [])
    assert "\n" not in str(told.value)
    assert len(str(told.value)) <= 1_100
    assert str(told.value).startswith(
        "model.factory tests.support.hostile_exceptions:"
    ) or "ModelError" in what.title().replace(" ", "")


@pytest.mark.parametrize("what", ["silent fatal", "silent model error", "empty model error"])
def test_errors_that_end_the_task_have_a_reason(what: str) -> None:
    with pytest.raises(Exception, match=r"the model asked to stop: .") as told:
        judged("Raising", "predict", what, batch())
    assert one_line(told.value)


@pytest.mark.parametrize("what", [*hostile.EXCEPTIONS, *hostile.REFUSALS, *hostile.ENDS])
def test_the_text_of_any_exception_is_bounded_and_not_empty(what: str) -> None:
    error = hostile.made(what)
    assert one_line(error).strip() and "\n" not in one_line(error) and len(one_line(error)) < 5_000
    assert traced(error, 2_000) and len(traced(error, 2_000)) < 2_100
    assert where(error)
    assert memory_limit.ran_out(error) in (True, False)
    assert fault_of(error, "exception").reason


@given(st.text(st.characters(), max_size=200), st.integers(2, 300))
def test_a_text_that_goes_over_the_wire_is_never_too_long(text: str, limit: int) -> None:
    assert len(plain(text, limit)) <= limit + 40
    assert len(cut(text, limit)) <= limit + 40
    assert len(plain("\ud800" * 20_000, 16_000)) < TEXT_LIMIT


@pytest.mark.parametrize("what", ["surrogates", "zeros", "enormous"])
def test_a_large_batch_of_long_texts_kills_no_replica(what: str) -> None:
    records = [record(n, bad="yes") for n in range(1_000)]
    records[0] = record(0)
    if what == "enormous":
        del records[20:]
    assert judged("Raising", "decode", what, records) == 0
    assert all(isinstance(each.outcome, Dead) and each.outcome.kind == "decode" for each in records[1:])


@pytest.mark.parametrize("what", ["out of memory", "OutOfMemoryError"])
def test_memory_is_known_by_its_cause_also_in_a_circle(what: str) -> None:
    error = hostile.circle("__cause__")
    assert not memory_limit.ran_out(error)
    error.__cause__ = RuntimeError(what) if what == "out of memory" else hostile.named(what)
    error.__cause__.__cause__ = error
    assert memory_limit.ran_out(error)
