"""The plan of a redrive: each letter is in one part of it, and after it was carried out, only failures are left to
plan."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.letters.letter import LetterFilter
from consumer.letters.plan import CANNOT, REDRIVEN
from tests.support.dead_table import Fate, dead
from tests.unit.letters.test_redrive import FakeModel, World

numbers = st.integers(1, 20)
KINDS = ("exception", "timeout", "sink")


@st.composite
def worlds(draw: st.DrawFn) -> World:
    bad = draw(st.dictionaries(numbers, st.sampled_from(KINDS), min_size=1, max_size=12))
    fates = [dead(n, bad[n], payload=b"" if bad[n] == "sink" else None) if n in bad else Fate(n) for n in range(1, 21)]
    return World(*fates, per_file=draw(st.integers(1, 9)))


@settings(max_examples=25, deadline=None)
@given(worlds(), st.sets(numbers), st.sampled_from(["", *KINDS]), st.integers(0, 5), st.sampled_from([0.0, 0.3]))
def test_a_plan_is_carried_out_completely_and_once(
    world: World, hopeless: set[int], kind: str, canary: int, rate: float
) -> None:
    chosen = LetterFilter(kind=kind)
    before = world.plan(chosen)
    assert before.kinds.total() == before.records + before.cannot.total()
    model = FakeModel(*hopeless)
    result = world.run(model, before, canary=canary, rate=rate)
    assert len(model.tried) == len(set(model.tried)) == result.tried
    assert result.tried == before.records or (result.stopped and result.tried == canary)
    after = world.plan(chosen)
    done = after.kinds.total() - after.records - after.skipped - after.cannot.total()
    assert done == result.redriven == sum(count for (_, state), count in after.kinds.items() if state == REDRIVEN)
    assert after.skipped == result.failed and after.records == before.records - result.tried
    assert sum(count for (_, state), count in after.kinds.items() if state == CANNOT) == before.cannot.total()
    report = world.table.audit()
    assert report.problems == [] and report.redriven == result.redriven
