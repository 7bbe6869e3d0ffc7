"""What ``predict`` returned, as Arrow rows: column by column, once per batch; record by record only on error.

Pure, and run in the replica: conversion costs the host nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.bisect import Fault
from pipeline.carried import TYPES, converter, json_object
from pipeline.columns import column, not_finite
from pipeline.factory import described
from pipeline.model import Reject

Row = list[Any]
"""A record's values in the order of the columns."""


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
        self._carry = [(name, converter(name, kind)) for name, kind in carry.items()]
        self._output = list(output.names)
        self._allow_nan = allow_nan
        fields = [pa.field(name, TYPES[kind]) for name, kind in carry.items()]
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
                parsed = json_object(payload) if parsed is None else parsed
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
