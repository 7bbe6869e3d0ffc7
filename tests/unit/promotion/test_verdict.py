"""The reasons against a new model. Pure."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from consumer.promotion.answers import Answers
from consumer.promotion.verdict import PromotionCriteria, column_changes, compare, refuse_other_columns
from pipeline.errors import RefusedError, UserError
from pipeline.record import Dead

SCHEMA = pa.schema([("label", pa.string()), ("score", pa.float32()), ("vector", pa.list_(pa.float64()))])
NUMBERS = [1, 2, 3, 4]


def answers(version: str = "1", numbers: list[int] = NUMBERS, **columns: list[object]) -> Answers:
    values = {
        "label": [f"l{number}" for number in numbers],
        "score": [number / 10 for number in numbers],
        "vector": [[float(number)] for number in numbers],
    } | columns
    return Answers(version.split(", "), pa.table(values, schema=SCHEMA), numbers)


def test_equal_answers_have_no_problem() -> None:
    found = compare(answers("1"), answers("2"), PromotionCriteria())
    assert found.problems == [] and found.changes == [] and found.examples == []
    assert {name: (each.values, each.changed) for name, each in found.columns.items()} == dict.fromkeys(
        SCHEMA.names, (4, 0)
    )
    assert found.columns["label"].tolerance is None and found.columns["vector"].largest == 0


def test_each_column_has_its_own_tolerance() -> None:
    new = answers("2", score=[0.11, 0.2, 0.3, 0.4], vector=[[1.005], [2.0], [3.0], [4.0]])
    strict = compare(answers(), new, PromotionCriteria())
    assert [each.changed for each in strict.columns.values()] == [0, 1, 1]
    assert len(strict.problems) == 2 and "1 of 4 values differ (25.0%; --max-changed allows 0.0%)" in strict.problems[0]
    assert compare(answers(), new, PromotionCriteria(tolerances={"score": 0.02, "vector": 0.02})).problems == []
    assert len(compare(answers(), new, PromotionCriteria(tolerances={"score": 0.02})).problems) == 1
    assert compare(answers(), new, PromotionCriteria(max_changed=0.25)).problems == []
    assert compare(answers(), new, PromotionCriteria(ignore=frozenset({"score", "vector"}))).problems == []
    assert [(each.number, each.column, each.old) for each in strict.examples] == [
        (1, "score", pytest.approx(0.1)),
        (1, "vector", [1.0]),
    ]


def test_rows_are_matched_by_record_and_not_by_place() -> None:
    found = compare(answers(numbers=[1, 3, 4]), answers("2", numbers=[2, 3, 4]), PromotionCriteria())
    assert found.problems == [] and found.columns["label"].values == 2
    assert found.unanswered == 1


def test_a_record_that_becomes_a_dead_letter_is_a_problem_and_the_reverse_is_none() -> None:
    dead = {2: Dead(b"", "KeyError: 'lang'", "", 3, "exception")}
    has_it = replace(answers("2", numbers=[1, 3, 4]), dead=dead)
    worse, better = compare(answers(), has_it, PromotionCriteria()), compare(has_it, answers("3"), PromotionCriteria())
    assert worse.newly_dead == [2] and "such as record 2: exception: KeyError: 'lang'" in worse.problems[0]
    assert better.newly_rows == [2] and better.problems == [] and better.unanswered == 0


def test_hardly_any_old_rows_are_a_problem_and_none_is_an_empty_comparison() -> None:
    dead = {number: Dead(b"", "too long", "", 1, "rejected") for number in NUMBERS}
    both = compare(
        replace(answers(numbers=[]), dead=dead), replace(answers("2", numbers=[]), dead=dead), PromotionCriteria()
    )
    assert both.is_empty and (both.compared, both.records) == (0, 4)
    few = compare(answers(numbers=[1]), answers("2"), PromotionCriteria())
    assert not few.is_empty and few.compared == 1
    assert "only 1 of 4 records have an old row (25.0%; --least-compared asks for 50%)" in few.problems[0]
    assert compare(answers(numbers=[1]), answers("2"), PromotionCriteria(least_compared=0.25)).problems == []
    no_column = compare(answers(), answers("2"), PromotionCriteria(ignore=frozenset(SCHEMA.names)))
    assert no_column.is_empty
    worse = compare(answers(), replace(answers("2", numbers=[]), dead=dead), PromotionCriteria())
    assert not worse.is_empty and worse.problems


@pytest.mark.parametrize(("old", "new", "slow"), [(10.0, 7.9, True), (10.0, 8.0, False), (None, 0.1, False)])
def test_a_slower_model_is_a_problem_where_the_old_rate_is_known(old: float | None, new: float, slow: bool) -> None:
    found = compare(replace(answers(), rate=old), replace(answers("2"), rate=new), PromotionCriteria())
    assert bool(found.problems) is slow
    assert (
        compare(
            replace(answers(), rate=old), replace(answers("2"), rate=new), PromotionCriteria(least_speed=0)
        ).problems
        == []
    )


def test_one_version_with_other_answers_is_a_problem() -> None:
    new = answers("1", label=["other", "l2", "l3", "l4"])
    [problem] = compare(answers("1"), new, PromotionCriteria(max_changed=1)).problems
    assert "Set a new model.version" in problem
    mixed = compare(answers("1, 2"), replace(new, versions=["2"]), PromotionCriteria(max_changed=1))
    assert len(mixed.problems) == 1, "a canary of this version has written rows already"
    assert compare(answers("1"), answers("1"), PromotionCriteria()).problems == []


def test_a_column_that_neither_has_is_a_mistake() -> None:
    with pytest.raises(UserError, match="neither model has a column 'scroe'"):
        compare(answers(), answers("2"), PromotionCriteria(ignore=frozenset({"scroe"})))


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (pa.schema([("label", pa.string()), ("score", pa.float32())]), "vector is gone"),
        (pa.schema([*SCHEMA, ("why", pa.string())]), "why (string) is new"),
        (SCHEMA.set(1, pa.field("score", pa.float64())), "score is double, was float"),
        (pa.schema([SCHEMA.field(1), SCHEMA.field(0), SCHEMA.field(2)]), "the order is"),
        (SCHEMA.set(2, pa.field("vector", pa.list_(pa.field("element", pa.float64())))), ""),
    ],
)
def test_other_columns_under_one_url_are_refused(new: pa.Schema, told: str) -> None:
    changes = column_changes(SCHEMA, new)
    refuse_other_columns(changes, None)
    if not told:
        assert changes == []
        return
    with pytest.raises(RefusedError) as caught:
        refuse_other_columns(changes, "s3://bucket/enriched")
    assert told in str(caught.value) and "Set a new sink.url" in str(caught.value)
