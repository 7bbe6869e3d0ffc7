"""What ``predict`` returned, as Arrow rows: column by column, once per batch; record by record only on error.

Pure, and run in the replica: conversion costs the host nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.bisect import Fault
from pipeline.factory import described
from pipeline.model import Reject

Row = list[Any]
"""A record's values in the order of the columns."""

CARRIED = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
"""The types of ``[model.carry]``. Timestamps are read from ISO-8601 text, or from numbers: milliseconds since 1970."""


class Inconvertible(Exception):
    """These rows do not fit one batch of Arrow, though each does by itself."""


@dataclass(slots=True)
class Made:
    """``batch`` has the good rows in order; ``faults`` says by position which are missing there, and why."""

    batch: pa.RecordBatch
    faults: dict[int, Fault]


class RowMaker:
    """Carried payload fields first, then the model's output columns: ``schema``."""

    def __init__(self, output: pa.Schema, carry: Mapping[str, str], *, allow_nan: bool) -> None:
        self._carry = [(name, _converter(name, kind)) for name, kind in carry.items()]
        self._output = list(output.names)
        self._allow_nan = allow_nan
        fields = [pa.field(name, CARRIED[kind]) for name, kind in carry.items()]
        self.schema = pa.schema([*fields, *output])
        self.nothing_carried: Row = [None] * len(fields)

    def carried(self, item: Any, payload: bytes, *, reads_json: bool) -> Row:
        """The carried fields of a record: from its item where that has them, else from its payload; else null.

        Raises ``Reject`` if a field is not of its type.
        """
        row: Row = []
        parsed: Mapping[str, Any] | None = None
        for name, convert in self._carry:
            if isinstance(item, Mapping) and (reads_json or name in item):
                value = item.get(name)
            else:
                parsed = _json_object(payload) if parsed is None else parsed
                value = parsed.get(name)
            row.append(None if value is None else convert(value))
        return row

    def make(self, carried: Sequence[Row], results: Sequence[Any]) -> Made:
        """Rows of as many results as there are lists of carried fields; a result may be a ``Reject``."""
        faults: dict[int, Fault] = {}
        rows: dict[int, Row] = {}
        for index, result in enumerate(results):
            fault = self._refused(result)
            if fault is None:
                rows[index] = carried[index] + [result[name] for name in self._output]
            else:
                faults[index] = fault
        batch = self._converted(rows, faults)
        if not self._allow_nan:
            batch = self._finite(batch, list(rows), faults)
        return Made(batch, faults)

    def _refused(self, result: Any) -> Fault | None:
        if isinstance(result, Reject):
            return Fault("rejected", result.reason)
        if not isinstance(result, Mapping):
            return Fault("contract", f"predict returned a {type(result).__name__} for this record, not a mapping")
        for name in self._output:
            if name not in result:
                return Fault("contract", f"predict's result lacks the column '{name}'")
        return None

    def _converted(self, rows: dict[int, Row], faults: dict[int, Fault]) -> pa.RecordBatch:
        """The rows as Arrow; those that do not convert are taken out of ``rows``."""
        try:
            return self._batch(list(rows.values()))
        except Exception as error:  # noqa: BLE001  # pyarrow's, numpy's and the values' own: all mean "not as it is"
            whole = error
        for index in list(rows):
            fault = self._fault_of(rows[index])
            if fault is not None:
                faults[index] = fault
                del rows[index]
        try:
            return self._batch(list(rows.values()))
        except Exception:  # noqa: BLE001  # as above
            raise Inconvertible(described(whole)) from whole

    def _batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        columns = zip(*rows, strict=True) if rows else [()] * len(self.schema)
        return pa.RecordBatch.from_arrays(
            [column(list(values), field) for values, field in zip(columns, self.schema, strict=True)],
            schema=self.schema,
        )

    def _fault_of(self, row: Row) -> Fault | None:
        for value, field in zip(row, self.schema, strict=True):
            try:
                column([value], field)
            except Exception as error:  # noqa: BLE001  # as above
                return Fault("contract", f"column '{field.name}' is not {field.type}: {described(error)}")
        return None

    def _finite(self, batch: pa.RecordBatch, indices: Sequence[int], faults: dict[int, Fault]) -> pa.RecordBatch:
        bad: set[int] = set()
        for field, values in zip(self.schema, batch.columns, strict=True):
            for row in not_finite(values):
                bad.add(row)
                faults.setdefault(indices[row], Fault("not_finite", f"column '{field.name}' is not finite"))
        if not bad:
            return batch
        return batch.take(pa.array([row for row in range(len(batch)) if row not in bad], pa.int64()))


def column(values: list[Any], field: pa.Field) -> pa.Array:
    """Values (Python's, numpy's, or a tensor's rows) as an array of the field's type. Raises what pyarrow raises."""
    array = _stacked(values, field.type)
    if array is None:
        try:
            array = pa.array(values, field.type)
        except (pa.ArrowException, TypeError, ValueError):
            array = pa.array([_pythonic(value) for value in values], field.type)
    if isinstance(array, pa.ChunkedArray):
        raise OverflowError(f"{array.nbytes} bytes are too much for one array")
    if array.null_count and not field.nullable:
        raise ValueError("null, which the output_schema does not allow")
    return array


def _stacked(values: list[Any], kind: pa.DataType) -> pa.Array | None:
    """Equally long numeric numpy rows as a fixed-size list, without touching each number; None if they are not that."""
    if not pa.types.is_fixed_size_list(kind) or not values or not all(type(value) is np.ndarray for value in values):
        return None
    shape = (kind.list_size,)
    if not all(value.shape == shape and value.dtype.kind in "fiu" for value in values):
        return None
    return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values), kind.value_type), type=kind)


def _pythonic(value: Any) -> Any:
    """Arrays and tensors, wherever they are nested, as Python's lists and numbers."""
    if isinstance(value, Mapping):
        return {key: _pythonic(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_pythonic(inner) for inner in value]
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value


def not_finite(array: pa.Array) -> list[int]:
    """The rows that hold a NaN or an infinity, however deep in lists and structs."""
    kind = array.type
    if pa.types.is_floating(kind):
        finite = pc.is_finite(array.cast(pa.float64()) if pa.types.is_float16(kind) else array)
        return [] if pc.all(finite).as_py() in (True, None) else np.flatnonzero(~_true_or_null(finite)).tolist()
    if pa.types.is_struct(kind):
        return sorted({row for child in array.flatten() for row in not_finite(child)})
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if pa.types.is_fixed_size_list(kind):
        inner = not_finite(array.flatten())
        rows = np.flatnonzero(_true_or_null(array.is_valid()))
        return sorted({int(rows[index // kind.list_size]) for index in inner})
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return []
    inner = not_finite(array.flatten())
    return sorted(set(pc.list_parent_indices(array).take(pa.array(inner, pa.int64())).to_pylist()))


def _true_or_null(mask: pa.BooleanArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    result: np.ndarray[Any, np.dtype[np.bool_]] = pc.fill_null(mask, True).to_numpy(zero_copy_only=False)
    return result


def _json_object(payload: bytes) -> Mapping[str, Any]:
    try:
        item = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return item if isinstance(item, dict) else {}


def _converter(name: str, kind: str) -> Callable[[Any], Any]:
    convert = {"string": _text, "int64": _whole, "float64": _number, "bool": _flag, "timestamp": _time}[kind]

    def checked(value: Any) -> Any:
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError, OSError):
            raise Reject(f"carried field '{name}' is a {type(value).__name__} that is no {kind}") from None

    return checked


def _text(value: Any) -> str:
    """Text as it is; what else JSON may hold, as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or not -(2**63) <= value < 2**63:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _time(value: Any) -> datetime:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000, UTC)
    if isinstance(value, date) and not isinstance(value, datetime):
        raise TypeError
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return when if when.tzinfo else when.replace(tzinfo=UTC)
