"""What ``predict`` returned, as Arrow rows: column by column, once per batch; record by record only on error.

Pure, and run in the replica: conversion costs the host nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pyarrow as pa

from pipeline.errors import one_line
from pipeline.model import Reject, arrow_types, reason_of
from pipeline.model.arrow_columns import AS_THEY_ARE, Rules, column
from pipeline.model.containers import listed
from pipeline.model.passthrough import TYPES, Passthrough
from pipeline.model.results import Columns, of_record
from pipeline.model.scalars import NotFinite, Refused
from pipeline.record import Fault

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
    """Carried payload fields first, then the model's output columns: ``schema``, in which all may be null.

    Raises ``ModelError`` if a column's type cannot be stored.
    """

    def __init__(
        self, output: pa.Schema, passthrough: Mapping[str, str], rules: Rules = AS_THEY_ARE, *, model: str = "model"
    ) -> None:
        self.names: list[str] = list(output.names)
        """The model's columns."""
        self._rules = rules
        self._passthrough = Passthrough(passthrough)
        fields = [pa.field(name, TYPES[kind]) for name, kind in passthrough.items()]
        self.kept = pa.schema([*fields, *arrow_types.kept(output, model)])
        """What values are converted to: as ``schema``, but null only where the model allows it."""
        self._count_passthrough = len(fields)
        self.schema = arrow_types.nullable(self.kept)
        self.nothing_carried: Row = [None] * len(fields)
        self._get: Callable[[Any], Any] = (
            itemgetter(*self.names) if len(self.names) > 1 else lambda fields: (fields[self.names[0]],)
        )

    def passthrough(self, item: Any, payload: bytes, *, reads_json: bool) -> Row:
        """The carried fields of a record: from its item where that has them, else from its payload; else null.

        Raises ``Reject`` if a field is not of its type.
        """
        return self._passthrough.row(item, payload, reads_json=reads_json)

    def make(self, passthrough: Sequence[Row], results: Sequence[Any] | Columns) -> Made:
        """Rows of as many results as there are lists of carried fields.

        Results are one for each record, of which any may be a ``Reject``; or columns.
        """
        if not isinstance(results, dict):
            return self._of_results(passthrough, results)
        columns = [*_transposed(passthrough, self._count_passthrough), *(results[name] for name in self.names)]
        try:
            return Made(self._batch(columns), {})
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # pyarrow's, numpy's and the values' own: all mean "not as it is"
            rows = zip(*map(listed, columns), strict=True)
            return self._one_by_one({index: list(row) for index, row in enumerate(rows)}, {}, error)

    def _of_results(self, passthrough: Sequence[Row], results: Sequence[Any]) -> Made:
        faults: dict[int, Fault] = {}
        rows: dict[int, Row] = {}
        for index, result in enumerate(results):
            fields = self._fields_of(result)
            if isinstance(fields, Fault):
                faults[index] = fields
            else:
                rows[index] = [*passthrough[index], *fields]
        try:
            return Made(self._batch(_transposed(list(rows.values()), len(self.kept))), faults)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # as above
            return self._one_by_one(rows, faults, error)

    def _fields_of(self, result: Any) -> tuple[Any, ...] | Fault:
        if type(result) is dict:
            try:
                return self._get(result)  # type: ignore[no-any-return]
            except KeyError:
                pass  # told below
        fields = of_record(result, self.names)
        return fields if isinstance(fields, Fault) else tuple(fields[name] for name in self.names)

    def _one_by_one(self, rows: dict[int, Row], faults: dict[int, Fault], whole: Exception) -> Made:
        """As a whole they do not convert: those that do not by themselves either are faults."""
        for index in list(rows):
            fault = self._fault_of(rows[index])
            if fault is not None:
                faults[index] = fault
                del rows[index]
        try:
            return Made(self._batch(_transposed(list(rows.values()), len(self.kept))), faults)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # as above
            raise Inconvertible(one_line(whole)) from whole

    def _batch(self, columns: Sequence[Any]) -> pa.RecordBatch:
        arrays = []
        for place, (values, field) in enumerate(zip(columns, self.kept, strict=True)):
            array = column(values, field, self._rules if place >= self._count_passthrough else AS_THEY_ARE)
            wanted = self.schema.field(place).type
            arrays.append(array if array.type == wanted else array.cast(wanted))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _fault_of(self, row: Row) -> Fault | None:
        for place, (value, field) in enumerate(zip(row, self.kept, strict=True)):
            try:
                column([value], field, self._rules if place >= self._count_passthrough else AS_THEY_ARE)
            except Reject as refusal:
                return Fault("rejected", reason_of(refusal))
            except NotFinite as refusal:
                return Fault(refusal.kind, f"column '{field.name}' {refusal}")
            except Refused as refusal:
                return Fault(refusal.kind, f"column '{field.name}' is not {field.type}: {refusal}")
            except Exception as error:  # noqa: BLE001  # as above
                return Fault("contract", f"column '{field.name}' is not {field.type}: {one_line(error)}")
        return None


def _transposed(rows: Sequence[Row], width: int) -> list[list[Any]]:
    return [list(values) for values in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
