"""Exact comparison of values that results carry: numbers, text, arrays, and lists and dicts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def equal_values(one: Any, other: Any) -> bool:
    """Whether two values are the same, down to the last bit of their numbers.

    ======================  ==================================================================================
    value                   equal if
    ======================  ==================================================================================
    NumPy array             dtype, shape and all elements are equal; an array equals nothing but an array
    number                  the values are equal, whatever the type: ``np.float32(1)``, ``1.0`` and ``1`` are
    bool                    both are bools and equal; ``True`` is not ``1``
    list, tuple             entry by entry; a list may equal a tuple, because json knows only one of them
    mapping                 the keys and the value of every key are equal, in any order
    anything else           the type is the same and ``==`` says so
    ======================  ==================================================================================

    NaN equals NaN everywhere.

    Example:
        >>> equal_values({"gap": [np.float32(0.5), np.nan]}, {"gap": (0.5, float("nan"))})
        True
        >>> equal_values(np.zeros(2, dtype=np.float32), np.zeros(2))
        False
    """
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _equal_arrays(one, other)
    one, other = (value.item() if isinstance(value, np.generic) else value for value in (one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other or (one != one and other != other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal_values(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return equal_entries(one, other)
    return type(one) is type(other) and bool(one == other)


def equal_entries(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two sequences have equal entries, whatever holds them: an (n,) array equals the list of its numbers."""
    return len(one) == len(other) and all(equal_values(*pair) for pair in zip(one, other, strict=True))


def equal_extras(one: Mapping[str, Sequence[Any]], other: Mapping[str, Sequence[Any]]) -> bool:
    """Whether values per instance or track are equal; an array may equal a list, as selecting makes it one."""
    return one.keys() == other.keys() and all(equal_entries(values, other[name]) for name, values in one.items())


def _equal_arrays(one: Any, other: Any) -> bool:
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return False
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return equal_entries(one.ravel().tolist(), other.ravel().tolist())
    # Only numbers with a fraction, complex ones and times have a NaN; NumPy does not look for it in text.
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fcmM")
