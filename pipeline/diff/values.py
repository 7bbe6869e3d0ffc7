"""Finds the values of two columns that differ. Pure, over Arrow arrays of equal length; floats within a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Values:
    """Compares values and keeps the largest difference of two floats so far; None: there was none.

    Two floats are equal if ``|a - b| <= tolerance * max(1, |a|, |b|)``: absolute for small numbers, relative for large
    ones. NaN equals NaN. Other values, whole numbers included, must be exactly equal.
    """

    tolerance: float
    largest: float | None = None

    def differ(self, a: pa.Array, b: pa.Array) -> Mask:
        """Return True where the values differ. A null equals a null and nothing else.

        :raises TypeError: values of the two types can never be equal.
        """
        if not comparable(a.type, b.type):
            raise TypeError(f"{a.type} and {b.type} cannot be compared")
        valid_a, valid_b = _mask(a.is_valid()), _mask(b.is_valid())
        found: Mask = valid_a != valid_b
        both = valid_a & valid_b
        if not both.all():
            a, b = a.filter(pa.array(both)), b.filter(pa.array(both))
        found[both] = self._of(a.type, b.type)(a, b)
        return found

    def _of(self, a: pa.DataType, b: pa.DataType) -> Callable[[pa.Array, pa.Array], Mask]:
        if pa.types.is_floating(a) or pa.types.is_floating(b):
            return self._floats
        if _is_list(a):
            return self._lists
        if pa.types.is_struct(a):
            return self._structs
        return _plain

    def _floats(self, a: pa.Array, b: pa.Array) -> Mask:
        left, right = (each.cast(pa.float64()).to_numpy(zero_copy_only=False) for each in (a, b))
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(left - right)
            allowed = self.tolerance * np.maximum(1.0, np.maximum(np.abs(left), np.abs(right)))
            same = (left == right) | (np.isnan(left) & np.isnan(right)) | (np.isfinite(allowed) & (apart <= allowed))
        known = apart[np.isfinite(apart)]
        self.largest = max(self.largest or 0.0, float(known.max(initial=0.0)))
        found: Mask = ~same
        return found

    def _lists(self, a: pa.Array, b: pa.Array) -> Mask:
        found: Mask = _numbers(pc.list_value_length(a)) != _numbers(pc.list_value_length(b))
        rows = np.flatnonzero(~found)
        alike_a, alike_b = a.take(pa.array(rows)), b.take(pa.array(rows))
        inner = self.differ(pc.list_flatten(alike_a), pc.list_flatten(alike_b))
        if inner.any():
            found[rows[_numbers(pc.list_parent_indices(alike_a))[inner]]] = True
        return found

    def _structs(self, a: pa.Array, b: pa.Array) -> Mask:
        found = np.zeros(len(a), np.bool_)
        for place in range(a.type.num_fields):
            name = a.type.field(place).name
            found |= self.differ(pc.struct_field(a, name), pc.struct_field(b, name))
        return found


def comparable(a: pa.DataType, b: pa.DataType) -> bool:
    """Whether values of the types can be equal: equal types, two kinds of numbers, and lists or structs of them."""
    if a.equals(b) or (_is_number(a) and _is_number(b)):
        return True
    if _is_list(a) and _is_list(b):
        return comparable(a.value_type, b.value_type)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        names_a, names_b = ({kind.field(place).name for place in range(kind.num_fields)} for kind in (a, b))
        return names_a == names_b and all(comparable(a.field(name).type, b.field(name).type) for name in names_a)
    return bool(_is_text(a) and _is_text(b))


def _plain(a: pa.Array, b: pa.Array) -> Mask:
    try:
        return ~_mask(pc.equal(a, b))
    except pa.ArrowNotImplementedError:  # maps, and unlike widths
        return np.array([left != right for left, right in zip(a.to_pylist(), b.to_pylist(), strict=True)], np.bool_)


def _mask(values: pa.Array) -> Mask:
    found: Mask = np.array(values.to_numpy(zero_copy_only=False), np.bool_)
    return found


def _numbers(values: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.int64)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
