"""Takes values with parts apart, of any library: elements of lists, fields of mappings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.model.scalars import ValueRefused, home, named, of_array


def fields_of(value: Any) -> Mapping[Any, Any] | None:
    """Return the named fields of a mapping, named tuple, dataclass, pydantic or attrs object, structured value or
    Series.

    None for anything else.
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if isinstance(value, tuple):
        return getattr(value, "_asdict", lambda: None)()
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, np.void):
        return None if value.dtype.names is None else {name: value[name] for name in value.dtype.names}
    for fields in (getattr(type(value), "model_fields", None), getattr(type(value), "__attrs_attrs__", None)):
        if fields is not None:
            names = fields if isinstance(fields, Mapping) else [field.name for field in fields]
            return {name: getattr(value, name) for name in names}
    if _is_series(value) and value.index.is_unique:
        return dict(zip(value.index, list(value), strict=True))
    return None


def elements(value: Any) -> list[Any] | tuple[Any, ...] | np.ndarray[Any, Any] | pa.Array:
    """Return a list's values in order: lists, tuples and arrays unchanged, anything else as one of them.

    :raises ValueRefused: it has no order, can be read only once, or is not a list.
    """
    if type(value) in (list, tuple) or isinstance(value, pa.Array):
        return value
    if isinstance(value, pa.ChunkedArray):
        return pa.concat_arrays(value.chunks) if value.num_chunks else pa.array([], value.type)
    if isinstance(value, pa.ListScalar):
        return value.values
    if _is_pandas(value):
        return _of_pandas(value)
    if (array := _array(value)) is not None:
        return array
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        return elements(pa.chunked_array(value) if hasattr(value, "__arrow_c_stream__") else pa.array(value))
    return _of_others(value)


def _of_others(value: Any) -> list[Any]:
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping):
        raise ValueRefused(named(value))
    if isinstance(value, AbstractSet):
        raise ValueRefused(f"{named(value)}, which has no order: return a list")
    if isinstance(value, Sequence) or (isinstance(value, Iterable) and hasattr(value, "__len__")):
        return list(value)
    if isinstance(value, Iterable):
        raise ValueRefused(f"{named(value)}, which can be read only once: return a list")
    raise ValueRefused(named(value))


def listed(values: Any) -> list[Any] | tuple[Any, ...]:
    """Return what :func:`elements` returned as a list of Python values."""
    if isinstance(values, list | tuple):
        return values
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "biufO" and values.itemsize <= 8:
        return values.tolist()  # type: ignore[no-any-return]  # numpy's own types do not say
    return list(values)


def _array(value: Any) -> list[Any] | np.ndarray[Any, Any] | None:
    array = of_array(value)
    if array is None:
        return None
    if not array.ndim:
        raise ValueRefused(f"{named(value)} without dimensions")
    if isinstance(array, np.ma.MaskedArray):
        return list(array) if np.ma.is_masked(array) else np.asarray(array)
    return array


def _is_pandas(value: Any) -> bool:
    return home(value) == "pandas" and hasattr(value, "dtype") and hasattr(value, "__len__")


def _is_series(value: Any) -> bool:
    return _is_pandas(value) and hasattr(value, "index")


def _of_pandas(value: Any) -> list[Any] | np.ndarray[Any, Any] | pa.Array:
    """Use its own conversion to Arrow if it has one. A column of floats keeps its NaNs: they are values there."""
    if isinstance(value.dtype, np.dtype):
        array = value.to_numpy()
        return list(value) if array.dtype.kind == "O" else array
    try:
        array = pa.array(value, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return list(value)
    return list(value) if isinstance(array.type, pa.BaseExtensionType) else elements(array)
