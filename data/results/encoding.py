"""Values of ``extras`` and ``metadata`` as json, and back to exactly the same values.

Whatever json has no form for becomes an object with one key that begins with ``$``:

==============  ===============================================================================================
``$float``      ``inf``, ``-inf`` and ``nan``
``$tuple``      a tuple
``$dict``       a dict with other keys than strings, or with a key that begins with ``$``
``$geometry``   a ``Geometry``
``$scalar``     a NumPy scalar with its dtype
``$array``      a NumPy array with dtype and shape
``$stack``      an array with a row per instance whose rows are large, kept one by one
``$absent``     the name of a large array, with dtype and shape; its numbers are kept elsewhere
==============  ===============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.geometry import Geometry

# A 4x4 matrix is the largest array that is a parameter; maps on the token grid and on the pixels begin above, and a line
# of json with them would be megabytes long.
INLINE_NUMBERS = 16
_KINDS = "biufU"  # bool, integers, floating, text; complex numbers and objects have no json form

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class AbsentArray:
    """Stands for an array whose numbers were not kept with the record.

    Args:
        dtype: as NumPy writes it, such as ``"<f4"``.
        shape: of the array.
    """

    dtype: str
    shape: tuple[int, ...]


def encode_value(value: Any, key: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Convert a value to json values.

    Args:
        value: None, bool, int, float, str, a NumPy scalar or array, ``Geometry``, or a list, tuple or dict of these.
        key: where the value stands, such as ``extras.eigenvector.0``; large arrays within get names that begin so.
        arrays: large arrays are added here by name.

    Raises:
        ValueError: if it has no json form; the message names the entry.

    Example:
        >>> arrays = {}
        >>> encode_value([float("inf"), (1, 2)], "extras.gap", arrays)
        [{'$float': 'inf'}, {'$tuple': [1, 2]}]
        >>> encode_value(np.zeros((5, 5)), "metadata.saliency", arrays)
        {'$absent': 'metadata.saliency', 'dtype': '<f8', 'shape': [5, 5]}
        >>> list(arrays)
        ['metadata.saliency']
    """
    match value:
        case np.generic():
            return _encode_scalar(value, key)
        case np.ndarray():
            return _encode_array(value, key, arrays)
        case AbsentArray():
            return {"$absent": key, "dtype": value.dtype, "shape": list(value.shape)}
        case None | bool():
            return value
        case str():
            return str.__str__(value)  # an enum of strings becomes its text, which is equal to it
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        case Geometry():
            return {"$geometry": [list(field) if isinstance(field, tuple) else field for field in astuple(value)]}
        case list():
            return [encode_value(item, f"{key}.{i}", arrays) for i, item in enumerate(value)]
        case tuple():
            return {"$tuple": encode_value(list(value), key, arrays)}
        case Mapping():
            return _encode_mapping(value, key, arrays)
    raise ValueError(
        f"{entry_name(key)} holds a {type(value).__name__}, which cannot be stored; "
        "store numbers, strings, lists, dicts or NumPy arrays"
    )


def encode_rows(value: Any, key: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Convert an entry of ``extras``: like ``encode_value``, but an array is judged by the size of its rows.

    A score for each of a hundred instances is not a large array; an eigenvector for each of two is.
    """
    if not isinstance(value, np.ndarray) or not value.ndim:
        return encode_value(value, key, arrays)
    if math.prod(value.shape[1:]) <= INLINE_NUMBERS:
        return _encode_small(value, key)
    return {
        "$stack": [encode_value(row, f"{key}.{i}", arrays) for i, row in enumerate(value)],
        "dtype": _dtype(value.dtype, key),
        "shape": list(value.shape),
    }


def decode_value(content: Any, arrays: Arrays) -> Any:
    """The value of ``encode_value`` or ``encode_rows`` again.

    Args:
        content: json values.
        arrays: large arrays by name; an ``AbsentArray`` stands for those that are not here.

    Raises:
        ValueError, KeyError, TypeError: if the content was not encoded so.
    """
    if isinstance(content, list):
        return [decode_value(item, arrays) for item in content]
    if not isinstance(content, dict):
        return content
    tag = next(iter(content), "")
    if tag.startswith("$"):
        return _DECODERS[tag](content, arrays)
    return {name: decode_value(item, arrays) for name, item in content.items()}


def absent_arrays(content: Any) -> dict[str, AbsentArray]:
    """Names, dtypes and shapes of the large arrays within encoded values."""
    if isinstance(content, dict):
        if "$absent" in content:
            return {content["$absent"]: AbsentArray(content["dtype"], tuple(content["shape"]))}
        content = list(content.values())
    found: dict[str, AbsentArray] = {}
    for item in content if isinstance(content, list) else ():
        if isinstance(item, (dict, list)):
            found |= absent_arrays(item)
    return found


def entry_name(key: str) -> str:
    """``extras.gap.0`` as people write it: ``extras['gap']``."""
    group, _, rest = key.partition(".")
    return f"{group}[{rest.partition('.')[0]!r}]"


def _encode_scalar(value: np.generic, key: str) -> Any:
    dtype = _dtype(value.dtype, key)
    return {"$scalar": dtype, "value": encode_value(value.item(), key, {})}


def _encode_array(value: NDArray[Any], key: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if value.size <= INLINE_NUMBERS:
        return _encode_small(value, key)
    while key in arrays:  # {"a.b": ..., "a": {"b": ...}} has two arrays at a.b
        key += "_"
    arrays[key] = value
    return {"$absent": key, "dtype": _dtype(value.dtype, key), "shape": list(value.shape)}


def _encode_small(value: NDArray[Any], key: str) -> Any:
    dtype = _dtype(value.dtype, key)
    values = [encode_value(number, key, {}) for number in value.ravel().tolist()]
    return {"$array": dtype, "shape": list(value.shape), "values": values}


def _dtype(dtype: np.dtype[Any], key: str) -> str:
    # Python's float holds 8 bytes.
    if dtype.kind not in _KINDS or (dtype.kind == "f" and dtype.itemsize > 8):
        raise ValueError(f"{entry_name(key)} has dtype {dtype}, which cannot be stored; convert it to real numbers or text")
    return dtype.str


def _read_dtype(text: Any) -> np.dtype[Any]:
    dtype = np.dtype(str(text))
    if dtype.kind not in _KINDS:
        raise ValueError(f"no value is stored with dtype {dtype}")
    return dtype


def _encode_mapping(value: Mapping[Any, Any], key: str, arrays: dict[str, NDArray[Any]]) -> Any:
    plain = all(type(name) is str and not name.startswith("$") for name in value)
    items = [(name, encode_value(item, f"{key}.{name}", arrays)) for name, item in value.items()]
    return dict(items) if plain else {"$dict": [[encode_value(name, key, {}), item] for name, item in items]}


def _decode_array(content: Any, arrays: Arrays) -> NDArray[Any]:
    dtype, values = _read_dtype(content["$array"]), decode_value(content["values"], arrays)
    return np.array(values, dtype=dtype).reshape(content["shape"])


def _decode_stack(content: Any, arrays: Arrays) -> Any:
    rows = decode_value(content["$stack"], arrays)
    if any(isinstance(row, AbsentArray) for row in rows):
        return rows
    return np.array(rows, dtype=_read_dtype(content["dtype"])).reshape(content["shape"])


def _decode_absent(content: Any, arrays: Arrays) -> Any:
    absent = AbsentArray(content["dtype"], tuple(content["shape"]))
    return arrays.get(content["$absent"], absent)


def _decode_geometry(content: Any, arrays: Arrays) -> Geometry:
    *sizes, patch = content["$geometry"]
    image, scaled, model = ((int(height), int(width)) for height, width in sizes)
    return Geometry(image, scaled, model, patch)


_DECODERS: dict[str, Callable[[Any, Arrays], Any]] = {
    "$float": lambda content, arrays: float(content["$float"]),
    "$tuple": lambda content, arrays: tuple(decode_value(content["$tuple"], arrays)),
    "$dict": lambda content, arrays: {
        decode_value(name, arrays): decode_value(item, arrays) for name, item in content["$dict"]
    },
    "$geometry": _decode_geometry,
    "$scalar": lambda content, arrays: _read_dtype(content["$scalar"]).type(decode_value(content["value"], arrays)),
    "$array": _decode_array,
    "$stack": _decode_stack,
    "$absent": _decode_absent,
}
