"""What predict may return as a whole: accepted with every row right, or refused with one line that says
what to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.errors import ModelError
from pipeline.model import Reject
from pipeline.model.arrow_columns import AS_THEY_ARE, Rules
from pipeline.model.arrow_rows import RowMaker
from pipeline.model.loader import UserModel
from pipeline.model_process.worker import FailedAnswer, PredictedRows, Predicting

SCHEMA = pa.schema([("n", pa.int64()), ("x", pa.float64())])
RIGHT: list[dict[str, Any]] = [{"n": 0, "x": 0.5}, {"n": 1, "x": 1.5}, {"n": 2, "x": 2.5}]
COLUMNS: dict[str, Any] = {"n": [0, 1, 2], "x": [0.5, 1.5, 2.5]}
WRITE = "return a list with {'n': …, 'x': …} or Reject(why) for each record, in their order, or a DataFrame or mapping"
FOR_ONE = "; return {'n': …, 'x': …}, or Reject(\"why\") to refuse it"


@dataclasses.dataclass
class Answer:
    x: float
    n: int


class Pair(NamedTuple):
    x: float
    n: int


class Returns:
    """A model that returns a given value for any items."""

    output_schema = SCHEMA

    def __init__(self, predict: Callable[[Any], Any]) -> None:
        self.predict = predict


def predicting(predict: Callable[[Any], Any], schema: pa.Schema = SCHEMA, rules: Rules = AS_THEY_ARE) -> Predicting:
    return Predicting(UserModel("m:M", Returns(predict)), RowMaker(schema, {}, rules))


def outcome(returned: Any, rules: Rules = AS_THEY_ARE) -> PredictedRows | FailedAnswer:
    return predicting(lambda items: returned, rules=rules).predict_items([0, 1, 2], [[], [], []])


def rows() -> Iterator[dict[str, Any]]:
    yield from RIGHT


BATCH = pa.RecordBatch.from_pylist(RIGHT)


@pytest.mark.parametrize(
    "returned",
    [
        RIGHT,
        tuple(RIGHT),
        rows(),
        map(dict, RIGHT),
        [Pair(**row) for row in RIGHT],
        [Answer(**row) for row in RIGHT],
        [row for _, row in pd.DataFrame(COLUMNS).iterrows()],
        COLUMNS,
        {name: np.array(values) for name, values in COLUMNS.items()},
        {"more": ["is"] * 3, **{name: pa.array(values) for name, values in COLUMNS.items()}},
        {"n": range(3), "x": pd.Series([0.5, 1.5, 2.5], index=[7, 7, 9])},
        pd.DataFrame(COLUMNS)[["x", "n"]],
        pd.DataFrame(COLUMNS, index=[5, 5, 1]).convert_dtypes(),
        pd.DataFrame(COLUMNS).convert_dtypes(dtype_backend="pyarrow"),
        BATCH,
        pa.concat_tables([pa.table(BATCH.slice(0, 1)), pa.table(BATCH.slice(1, 2))]),
        pa.RecordBatchReader.from_batches(BATCH.schema, [BATCH.slice(0, 2), BATCH.slice(2, 1)]),
        BATCH.to_struct_array(),
        np.array([(0.5, 0), (1.5, 1), (2.5, 2)], dtype=[("x", "f8"), ("n", "i4")]),
        np.array(RIGHT, dtype=object),
    ],
    ids=lambda returned: type(returned).__name__,
)
def test_natural_answers_are_taken_a_row_for_each_record(returned: Any) -> None:
    made = outcome(returned)
    assert isinstance(made, PredictedRows) and not made.faults
    assert made.batch.to_pylist() == RIGHT


@pytest.mark.parametrize(
    ("returned", "came"),
    [
        (None, "None (is a return missing?)"),
        ("abc", "a str"),
        (b"abc", "a bytes"),
        (7, "an int"),
        ({1, 2, 3}, "a set"),
        (np.zeros(3), "a numpy.ndarray of shape (3,), which does not say which column it is"),
        (np.zeros((3, 2)), "a numpy.ndarray of shape (3, 2), which does not say which column it is"),
        (RIGHT[0], "a column 'n' that is an int;"),
        ({**COLUMNS, "x": "abc"}, "a column 'x' that is a str"),
        (
            {**COLUMNS, "x": iter([1.0])},
            "a column 'x' that is a list_iterator, which can be read only once: return a list",
        ),
        ({**COLUMNS, "x": [1.0]}, "a column 'x' of 1 value for 3 records"),
        (pd.DataFrame([[0, 1, 2.0]], columns=["n", "n", "x"]), "two columns 'n'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_answers_are_refused_with_what_was_returned_and_what_to_return(returned: Any, came: str) -> None:
    failed = outcome(returned)
    assert isinstance(failed, FailedAnswer) and failed.op == "failed" and failed.fault.kind == "contract"
    assert failed.fault.reason.startswith(f"predict returned {came}")
    assert f"; {WRITE}" in failed.fault.reason
    assert "\n" not in failed.fault.reason


def test_a_coroutine_is_refused() -> None:
    async def late() -> None: ...

    failed = outcome(late())
    assert isinstance(failed, FailedAnswer)
    assert failed.fault.reason.startswith("predict returned a coroutine: predict must not be async")
    assert WRITE in failed.fault.reason


def test_a_tensor_is_refused() -> None:
    torch = pytest.importorskip("torch")
    failed = outcome(torch.zeros(3, 2))
    assert isinstance(failed, FailedAnswer)
    assert failed.fault.reason.startswith("predict returned a torch.Tensor of shape (3, 2), which does not say which")


@pytest.mark.parametrize(
    ("result", "came"),
    [
        (None, 'None for this record; to refuse it, return Reject("why") in its place'),
        ((0, 0.5), f"a tuple for this record{FOR_ONE}"),
        (0.5, f"a float for this record{FOR_ONE}"),
        (np.float32(0.5), f"a numpy.float32 for this record{FOR_ONE}"),
        ([0, 0.5], f"a list for this record{FOR_ONE}"),
        ("abc", f"a str for this record{FOR_ONE}"),
        (Answer, f"the class Answer for this record{FOR_ONE}"),
        (Reject, 'the class Reject for this record; to refuse it, return Reject("why") in its place'),
        (ValueError("no"), 'a ValueError for this record; to refuse it, return Reject("why") in its place'),
    ],
    ids=str,
)
def test_one_record_without_a_result_costs_itself(result: Any, came: str) -> None:
    made = outcome([RIGHT[0], result, RIGHT[2]])
    assert isinstance(made, PredictedRows) and list(made.faults) == [1]
    assert made.faults[1].kind == "contract" and made.faults[1].reason == f"predict returned {came}"
    assert made.batch.to_pylist() == [RIGHT[0], RIGHT[2]]


@pytest.mark.parametrize("count", [0, 2, 4, 1000])
@pytest.mark.parametrize("shape", [list, iter, lambda some: pa.array(some, BATCH.to_struct_array().type)])
def test_as_many_results_as_records(shape: Callable[[Any], Any], count: int) -> None:
    failed = outcome(shape([RIGHT[0]] * count))
    assert isinstance(failed, FailedAnswer) and failed.fault.kind == "contract"
    assert failed.fault.reason.startswith("predict returned ") and failed.fault.reason.endswith("results for 3 records")


def test_an_endless_generator_ends() -> None:
    assert isinstance(outcome(iter(lambda: RIGHT[0], None)), FailedAnswer)


def test_a_misspelt_column_names_both() -> None:
    fault = "there is no column 'x'; it has 'score' instead"
    made = outcome([RIGHT[0], {"n": 1, "score": 1.5}, RIGHT[2]])
    assert isinstance(made, PredictedRows)
    assert made.faults[1].reason == f"predict's result for this record: {fault}"
    for returned in ({"n": [0, 1, 2], "score": [1, 2, 3]}, pd.DataFrame({"n": [0, 1, 2], "score": [1, 2, 3]})):
        failed = outcome(returned)
        assert isinstance(failed, FailedAnswer)
        assert failed.fault.reason == f"predict did not return all columns: {fault}"


@pytest.mark.parametrize(
    ("method", "given", "right"),
    [
        ("close", lambda x: None, "close(self)"),
        ("example", lambda x: None, "example(self)"),
        ("decode", lambda: None, "decode(self, payload)"),
        ("cost", lambda a, b: 1, "cost(self, item)"),
        ("load", lambda: None, "load(self, context)"),
    ],
)
def test_methods_with_other_parameters_are_refused_at_start(method: str, given: Callable[..., Any], right: str) -> None:
    model = Returns(lambda items: items)
    setattr(model, method, given)
    with pytest.raises(ModelError) as refused:
        UserModel("m:M", model)
    assert str(refused.value) == f"model.factory m:M: its {method} has other parameters; write def {right}"


@pytest.mark.parametrize("method", ["predict", "load", "decode", "cost", "example"])
def test_async_methods_are_refused_at_start(method: str) -> None:
    async def late(*_: Any) -> None: ...

    async def one_by_one(*_: Any) -> Any:
        yield

    for function in (late, one_by_one):
        model = Returns(lambda items: items)
        setattr(model, method, function)
        with pytest.raises(ModelError, match=f"^model.factory m:M: its {method} is async, .*; write def {method}$"):
            UserModel("m:M", model)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda items: [items.pop() for _ in range(len(items))][::-1],
        lambda items: (list(items), items.clear())[0],
        lambda items: (list(items), items.reverse())[0],
        lambda items: (list(items), items.extend([7, 8]))[0],
    ],
    ids=["pops", "clears", "reverses", "extends"],
)
def test_results_belong_to_their_records_if_predict_changes_its_list(
    spoil: Callable[[list[Any]], Sequence[Any]],
) -> None:
    def predict(items: list[Any]) -> list[Any]:
        return [{"n": item, "x": item + 0.5} for item in spoil(items)]

    items = [0, 1, 2]
    made = predicting(predict).predict_items(items, [[], [], []])
    assert isinstance(made, PredictedRows) and made.batch.to_pylist() == RIGHT
    assert items == [0, 1, 2]


@pytest.mark.parametrize("missing", [None, pd.NA, pd.NaT, np.datetime64("NaT"), np.ma.masked, pa.scalar(None)], ids=str)
@pytest.mark.parametrize("shape", [lambda rows: rows, lambda rows: {k: [row[k] for row in rows] for k in rows[0]}])
def test_a_missing_value_is_null_or_its_records_dead_letter(missing: Any, shape: Callable[[Any], Any]) -> None:
    returned = [RIGHT[0], {"n": missing, "x": 1.5}, RIGHT[2]]
    made = outcome(shape(returned))
    assert isinstance(made, PredictedRows) and made.batch.column("n").to_pylist() == [0, None, 2]
    made = outcome(shape(returned), Rules("reject", "keep"))
    assert isinstance(made, PredictedRows)
    assert {place: (fault.kind, fault.reason) for place, fault in made.faults.items()} == {
        1: ("contract", "column 'n' is not int64: a missing value, which model.missing = 'reject' refuses")
    }
    assert made.batch.to_pylist() == [RIGHT[0], RIGHT[2]]


@pytest.mark.parametrize(
    ("kind", "value", "is_refused"),
    [
        (pa.int64(), float("nan"), True),
        (pa.float64(), float("nan"), False),
        (pa.list_(pa.int64()), [1, None], True),
        (pa.list_(pa.int64()), [], False),
        (pa.struct([("a", pa.int64()), ("b", pa.int64())]), {"a": 1}, True),
        (pa.map_(pa.string(), pa.int64()), {"a": None}, True),
        (pa.list_(pa.float32(), 2), np.array([1, 2]), False),
    ],
    ids=str,
)
def test_missing_values_are_found_however_deep(kind: pa.DataType, value: Any, is_refused: bool) -> None:
    made = RowMaker(pa.schema([("v", kind)]), {}, Rules("reject", "keep")).make([[]], [{"v": value}])
    assert bool(made.faults) == is_refused


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (pa.null(), "holds nothing"),
        (pa.list_(pa.null()), "holds nothing"),
        (pa.sparse_union([pa.field("a", pa.int8())]), "Parquet cannot hold"),
        (pa.dense_union([pa.field("a", pa.int8())]), "Parquet cannot hold"),
        (pa.month_day_nano_interval(), "Parquet cannot hold"),
        (pa.uuid(), "other readers do not know"),
        (pa.json_(), "other readers do not know"),
        (pa.struct([]), "has no field"),
        (pa.list_(pa.int8(), 0), "has no size"),
        (pa.binary(0), "has no size"),
        (pa.map_(pa.list_(pa.int8()), pa.int8()), "has keys that are lists, structs or maps"),
    ],
    ids=str,
)
def test_types_that_no_table_can_have_are_refused_at_start(kind: pa.DataType, why: str) -> None:
    for each in (kind, pa.list_(kind), pa.struct([("a", kind)]), pa.map_(pa.string(), kind)):
        with pytest.raises(ModelError, match=f"^model.factory m:M: output_schema's column 'v' has .* {why}"):
            RowMaker(pa.schema([("v", each)]), {}, model="m:M")
