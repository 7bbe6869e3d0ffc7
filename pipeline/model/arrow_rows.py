"""Converts what ``predict`` returned to Arrow rows: column by column for the batch, record by record only after an
error.

It runs in the replica, so conversion costs the host no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

import pyarrow as pa

from pipeline.errors import one_line
from pipeline.model import Reject, arrow_types, reason_of
from pipeline.model.arrow_columns import AS_THEY_ARE, Rules, column
from pipeline.model.containers import listed
from pipeline.model.passthrough import TYPES, Passthrough
from pipeline.model.results import Columns, of_record
from pipeline.model.scalars import NotFinite, ValueRefused
from pipeline.record import Fault

Row = list[Any]
"""A record's values in the order of the columns."""


class Inconvertible(Exception):
    """The rows do not fit one Arrow batch together, although each of them does alone."""


@dataclass(slots=True)
class Made:
    """``batch`` has the good rows, in order. ``faults``: by position in the input, which rows are missing there, and
    why.
    """

    batch: pa.RecordBatch
    faults: dict[int, Fault]


class RowMaker:
    """Makes rows of the carried payload fields and the model's output columns, in this order.

    ``schema`` is the schema of the rows; all its fields are nullable. ``model`` is the model's name for error texts.

    :raises ModelError: a column's type cannot be stored.
    """

    def __init__(
        self, output: pa.Schema, passthrough: Mapping[str, str], rules: Rules = AS_THEY_ARE, *, model: str = "model"
    ) -> None:
        self.names: list[str] = list(output.names)
        """Names of the model's columns."""
        self._rules = rules
        self._passthrough = Passthrough(passthrough)
        fields = [pa.field(name, TYPES[kind]) for name, kind in passthrough.items()]
        self.kept = pa.schema([*fields, *arrow_types.kept(output, model)])
        """The schema that values are converted to: as ``schema``, but nullable only where the model allows it."""
        self._count_passthrough = len(fields)
        self.schema = arrow_types.nullable(self.kept)
        self.nothing_carried: Row = [None] * len(fields)
        self._get: Callable[[Any], Any] = (
            itemgetter(*self.names) if len(self.names) > 1 else lambda fields: (fields[self.names[0]],)
        )

    def passthrough(self, item: Any, payload: bytes, *, reads_json: bool) -> Row:
        """Return the carried fields of a record: from its item where that has them, else from its payload, else null.

        :raises Reject: a field is not of its configured type.
        """
        return self._passthrough.row(item, payload, reads_json=reads_json)

    def make(self, passthrough: Sequence[Row], results: Sequence[Any] | Columns) -> Made:
        """Make one row for each list of carried fields.

        ``results``: one for each record, any of which may be a ``Reject``; or columns.

        :raises Inconvertible: the good rows do not fit one batch.
        """
        if not isinstance(results, dict):
            return self._of_results(passthrough, results)
        columns = [*_transposed(passthrough, self._count_passthrough), *(results[name] for name in self.names)]
        try:
            return Made(self._batch(columns), {})
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # pyarrow's, numpy's or the values' own: each means that it does not fit
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
                pass  # reported below
        fields = of_record(result, self.names)
        return fields if isinstance(fields, Fault) else tuple(fields[name] for name in self.names)

    def _one_by_one(self, rows: dict[int, Row], faults: dict[int, Fault], whole: Exception) -> Made:
        """The batch did not convert: convert row by row. Rows that fail alone, too, are faults."""
        for index in list(rows):
            fault = self._fault_of(rows[index])
            if fault is not None:
                faults[index] = fault
                del rows[index]
        if not rows:
            return Made(self._none, faults)
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

    @cached_property
    def _none(self) -> pa.RecordBatch:
        """The batch of no rows."""
        return self._batch(_transposed([], len(self.kept)))

    @cached_property
    def _not(self) -> list[str]:
        """For each column, how the reason of a value that does not fit it begins."""
        return [f"column '{field.name}' is not {field.type}" for field in self.kept]

    def _fault_of(self, row: Row) -> Fault | None:
        for place, (value, field) in enumerate(zip(row, self.kept, strict=True)):
            try:
                column([value], field, self._rules if place >= self._count_passthrough else AS_THEY_ARE)
            except Reject as refusal:
                return Fault("rejected", reason_of(refusal))
            except NotFinite as refusal:
                return Fault(refusal.kind, f"column '{field.name}' {refusal}")
            except ValueRefused as refusal:
                return Fault(refusal.kind, f"{self._not[place]}: {refusal}")
            except Exception as error:  # noqa: BLE001  # as above
                return Fault("contract", f"{self._not[place]}: {one_line(error)}")
        return None


def _transposed(rows: Sequence[Row], width: int) -> list[list[Any]]:
    return [list(values) for values in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
