"""Reading json and checking its shape, once and for every file: sentences name the file, the entry and the key.

msgspec decodes. It accepts neither NaN nor lone surrogates, keeps the last of two equal keys and gives up on deep nesting;
what it refuses is read again by the standard library, for an exact sentence. A COCO file of 87 MB with 190,000 polygons is
read in 1.6 s and checked in 0.4 s; ``json`` needs 2.3 s to read it (benchmarks/README.md).
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

# A clip's metadata within a file of tracks lies ten levels deep; Python's recursion ends at a thousand.
MAX_DEPTH = 100
_TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep, which no file that eigenseg reads is"
_SHOWN = 40  # letters of a value in a message
_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object of keys and values",
    "str": "text",
}


def read_json(path: Path) -> Any:
    """Read json or json.gz, in UTF-8.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not json, a number is NaN or infinite, a key occurs twice in one object, or objects and lists
            are nested more than ``MAX_DEPTH`` levels deep; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            data = stream.read().removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put in front of UTF-8
        with _without_collection():
            return _decode(data)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not json: {error}") from None
    except RecursionError:
        raise ValueError(f"{path} {_TOO_DEEP}") from None
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def check_shape(content: Any, kind: type[T], source: str, form: str) -> T:
    """Check that decoded json has a shape.

    Args:
        content: json values.
        kind: a ``TypedDict``, or a list or dict of them. Keys that it does not name are left out.
        source: the file's name, for messages.
        form: what the file should be, for messages: ``in COCO format``.

    Returns:
        A copy in which ``tuple`` and ``int`` are what ``kind`` says.

    Raises:
        ValueError: naming the file, the entry with its id, and the key.

    Example:
        >>> from typing import TypedDict
        >>> Image = TypedDict("Image", {"id": int, "file_name": str})
        >>> check_shape([{"id": 7, "file_name": 3}], list[Image], "a.json", "a list of images")
        Traceback (most recent call last):
        ValueError: a.json is not a list of images: entry 0 (id 7): file_name must be text, got 3
    """
    try:
        with _without_collection():
            return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{source} is not {form}: {_explain(str(error), content)}") from None
    except UnicodeEncodeError:
        raise ValueError(f"{source} is not {form}: a key is not Unicode text") from None
    except RecursionError:
        raise ValueError(f"{source} {_TOO_DEEP}") from None


def _decode(data: bytes) -> Any:
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Also names of files with bytes that are not UTF-8: they are written as lone surrogates, which only this accepts.
        content = _decode_slowly(data)
        _count_pairs(content)
        return content
    # Within text a quote is escaped, so that `":` ends a key, unless the quote is escaped itself.
    if data.count(b'":') - data.count(b'\\":') != _count_pairs(content):
        return _decode_slowly(data)
    return content


def _decode_slowly(data: bytes) -> Any:
    content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_NotFinite, parse_float=_finite)
    pending = [("", content)]
    while pending:
        place, value = pending.pop()
        if isinstance(value, _NotFinite):
            raise ValueError(
                f"{place.removeprefix('.') or 'it'} is {value.name}, which json has no form for; write a finite number, or "
                "leave the key out"
            )
        if isinstance(value, dict):
            pending.extend((f"{place}.{key}", one) for key, one in value.items())
        elif isinstance(value, list):
            pending.extend((f"{place}[{index}]", one) for index, one in enumerate(value))
    return content


class _NotFinite:
    """Stands for a number that is none, until it is known where it stands."""

    def __init__(self, name: str) -> None:
        self.name = name


def _finite(digits: str) -> Any:
    return number if math.isfinite(number := float(digits)) else _NotFinite(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return content


def _count_pairs(content: Any) -> int:
    """The number of keys in all objects.

    Raises:
        RecursionError: if the nesting is too deep.
    """
    count, depth, level = 0, 0, [content]
    while level:
        if depth >= MAX_DEPTH and any(isinstance(value, (dict, list)) for value in level):
            raise RecursionError
        below: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                count += len(value)
                below += value.values()
            elif kind is list and not _all_numbers(value):
                below += value
        depth, level = depth + 1, below
    return count


def _all_numbers(values: list[Any]) -> bool:
    """Whether no list or object is among them; a sum is ten times faster than a loop over a polygon's corners."""
    try:
        sum(values)
    except (TypeError, OverflowError):
        return False
    return True


def _explain(error: str, content: Any) -> str:
    """The sentence for a message of msgspec such as "Expected `int`, got `str` - at `$.images[3].id`"."""
    what, _, where = error.partition(" - at `")
    steps = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", where.rstrip("`").removeprefix("$"))
    path = [key or (int(index) if index != "..." else None) for key, index in steps]
    value, entry, name = content, "", ""
    for step in path:
        # Of an object whose keys are free the message does not say which one it is.
        value = None if step is None or value is None else value[step]
        name = f"{name}[{step}]" if isinstance(step, int) else f"{name}.{'*' if step is None else step}"
        if isinstance(step, int) and isinstance(value, dict):
            number = value.get("id")
            place = f"entry {step}" if name == f"[{step}]" else name.removeprefix(".")
            entry, name = f"{place} (id {number}): " if type(number) is int else f"{place}: ", ""
    name = re.sub(r"^\[(\d+)\]", r"entry \1", name.removeprefix(".")) or "it"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        return f"{entry}{'' if name == 'it' else name + ': '}{missing[1]} is missing"
    if length := re.fullmatch(r"Expected `array` of length (\d+), got (\d+)", what):
        return f"{entry}{name} must be a list of {length[1]} entries, got {length[2]}"
    if wrong := re.fullmatch(r"Expected `(.+?)`(.*?)(?:, got `(.+)`)?", what):
        wanted = " or ".join(_WORDS.get(one, one) for one in wrong[1].split(" | "))
        shown = _WORDS.get(wrong[3], wrong[3] or "another value") if value is content or None in path else _short(value)
        return f"{entry}{name} must be {wanted}{wrong[2]}, got {shown}"
    return f"{entry}{name}: {what[:1].lower()}{what[1:]}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the garbage collector: it would look through the millions of new lists again and again, for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
