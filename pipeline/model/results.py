"""Reads what ``predict`` returned: a result for each record, or columns with a value for each record.

Accepted: an iterable of mappings, named tuples, dataclasses, pydantic objects and ``Reject``; a mapping of columns; a
DataFrame of any library that speaks Arrow; an Arrow table, batch or reader; a structured numpy array. Anything else is
refused with one line that says what was returned and what to return.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import BatchFailed, counted
from pipeline.model import Reject, reason_of
from pipeline.model.containers import elements, fields_of
from pipeline.model.scalars import ValueRefused, home, named
from pipeline.record import Fault

Columns = dict[str, Any]
"""Values by column name, as :func:`pipeline.model.containers.elements` returns them; all of the same length."""

_NO_RESULTS = (str, bytes, bytearray, memoryview, AbstractSet, np.ndarray)


def taken(returned: Any, count: int, names: Sequence[str]) -> list[Any] | Columns:
    """Return what ``predict`` returned for ``count`` records as a list of results or as columns.

    :raises BatchFailed: it is neither, or its length is not ``count``.
    """
    columns = _columns(returned, names)
    if columns is None:
        return _results(returned, count, names)
    for name, values in columns.items():
        if len(values) != count:
            raise _broken(f"a column '{name}' of {counted(len(values), 'value')} for {counted(count, 'record')}", names)
    return columns


def _results(returned: Any, count: int, names: Sequence[str]) -> list[Any]:
    if isinstance(returned, np.ndarray) and returned.dtype.kind == "O" and returned.ndim == 1:
        returned = list(returned)
    if not isinstance(returned, Iterable) or isinstance(returned, _NO_RESULTS) or hasattr(returned, "detach"):
        raise _broken(_told(returned), names)
    results = list(islice(returned, count + 1))
    if len(results) != count:
        came = len(returned) if isinstance(returned, Sized) else "more" if len(results) > count else len(results)
        raise BatchFailed(f"predict returned {came} results for {counted(count, 'record')}", "")
    return results


def _told(returned: Any) -> str:
    if returned is None:
        return "None (is a return missing?)"
    if inspect.isawaitable(returned) or inspect.isasyncgen(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        return f"{named(returned)}: predict must not be async"
    if isinstance(returned, np.ndarray) or hasattr(returned, "detach"):
        return f"{named(returned)}, which does not say which column it is"
    return named(returned)


def _broken(what: str, names: Sequence[str]) -> BatchFailed:
    example = ", ".join(f"'{name}': …" for name in names[:3]) + (", …" if len(names) > 3 else "")
    return BatchFailed(
        f"predict returned {what}; return a list with {{{example}}} or Reject(why) for each record, in their order, "
        "or a DataFrame or mapping of such columns",
        "",
    )


def _columns(returned: Any, names: Sequence[str]) -> Columns | None:
    """Return its columns; None if it is not a table of any kind."""
    if isinstance(returned, pa.RecordBatchReader):
        returned = returned.read_all()
    if isinstance(returned, pa.Table | pa.RecordBatch):
        return _picked(returned.column_names, returned.column, names)
    if isinstance(returned, np.ndarray):
        fields = returned.dtype.names
        return None if fields is None or returned.ndim != 1 else _picked(fields, returned.__getitem__, names)
    if _is_frame(returned):
        return _picked(list(returned.columns), returned.__getitem__, names)
    if hasattr(returned, "__arrow_c_stream__") and hasattr(returned, "columns"):
        return _columns(pa.table(returned), names)
    if isinstance(returned, Mapping):
        return _picked(list(returned), returned.__getitem__, names)
    return None


def _is_frame(returned: Any) -> bool:
    """Whether it is a pandas DataFrame, which is converted column by column."""
    return home(returned) == "pandas" and hasattr(returned, "columns")


def _picked(given: Sequence[Any], get: Any, names: Sequence[str]) -> Columns:
    """Return the schema's columns; other columns are ignored."""
    twice = sorted({str(name) for name in names if list(given).count(name) > 1})
    if twice:
        raise _broken(f"two columns '{twice[0]}'", names)
    if fault := lacking(given, names):
        raise BatchFailed(f"predict did not return all columns: {fault}", "")
    columns = {}
    for name in names:
        try:
            columns[name] = elements(get(name))
        except ValueRefused as refusal:
            raise _broken(f"a column '{name}' that is {refusal}", names) from None
    return columns


def lacking(given: Iterable[Any], names: Sequence[str]) -> str:
    """Say which of ``names`` is not given, and which unknown names are; empty if none is missing."""
    there = list(given)
    missing = [name for name in names if name not in there]
    if not missing:
        return ""
    others = [str(name)[:60] for name in there if name not in names]
    instead = f"; it has {', '.join(map(repr, others[:5]))} instead" if others else ""
    return f"there is no column '{missing[0]}'{instead}"


def of_record(result: Any, names: Sequence[str]) -> Mapping[Any, Any] | Fault:
    """Return one record's result as its fields, or the fault if it has none."""
    if isinstance(result, Reject):
        return Fault("rejected", reason_of(result))
    fields = result if type(result) is dict else fields_of(result)
    if fields is None:
        return Fault("contract", f"predict returned {_one(result)} for this record{_instead(result, names)}")
    if fault := lacking(fields, names):
        return Fault("contract", f"predict's result for this record: {fault}")
    return fields


def _one(result: Any) -> str:
    return "None" if result is None else f"the class {result.__name__}" if isinstance(result, type) else named(result)


def _instead(result: Any, names: Sequence[str]) -> str:
    refusal = 'Reject("why")'
    if result is None or isinstance(result, BaseException) or result is Reject:
        return f"; to refuse it, return {refusal} in its place"
    columns = ", ".join(f"'{name}': …" for name in names[:3]) + (", …" if len(names) > 3 else "")
    return f"; return {{{columns}}}, or {refusal} to refuse it"
