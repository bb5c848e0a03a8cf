"""json is read as the standard library reads it; what is no json of the expected shape is named by file, entry and key."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from eigenseg.data.json_files import MAX_DEPTH, check_shape, read_json


class Entry(TypedDict):
    """One entry of a file."""

    id: int
    box: NotRequired[tuple[float, float, float, float]]
    names: NotRequired[list[str] | None]


class File(TypedDict):
    """A file of entries."""

    entries: list[Entry]
    scores: NotRequired[dict[str, float]]


def write(folder: Path, content: str | bytes, name: str = "a.json") -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_json_is_read_as_utf8_with_or_without_gzip(suffix: str, mark: bytes, tmp_path: Path) -> None:
    content = mark + '{"ä": [1, 2.5, null], "b": {"c": "d"}}'.encode()
    path = write(tmp_path, gzip.compress(content) if suffix == ".json.gz" else content, f"a{suffix}")
    assert read_json(path) == {"ä": [1, 2.5, None], "b": {"c": "d"}}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values, st.sampled_from([None, 1]), st.booleans())
def test_every_value_is_what_the_standard_library_reads(tmp_path: Path, value: Any, indent: int, escaped: bool) -> None:
    # Keys such as 'a":' and '\\' look like the ends of others.
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    read = read_json(write(tmp_path, text))
    assert json.dumps(read) == json.dumps(json.loads(text))


def test_names_with_bytes_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    assert read_json(write(tmp_path, json.dumps({"file_name": "a\udcff.png"}))) == {"file_name": "a\udcff.png"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "is not json: Expecting property name"),
        ("a.json", b"", "is not json: Expecting value"),
        ("a.json", b'"\xff"', "cannot be read: 'utf-8' codec can't decode"),
        ("a.json", b'{"a": {"b": 1, "c": 2, "b": 3}}', "cannot be read: 'b' occurs twice$"),
        ("a.json", b'[{"b" : 1, "c": 2}, [0, 1, {"c":1, "c" :3}]]', "cannot be read: 'c' occurs twice$"),
        ("a.json", b'{"a\\":": 1, "b": 2, "b": 3}', "cannot be read: 'b' occurs twice$"),
        ("a.json", b'[{"id": 1}, {"score": NaN}]', r"cannot be read: \[1\]\.score is NaN, which json has no form for; "),
        ("a.json", b'{"a": [1, -Infinity]}', r"cannot be read: a\[1\] is -Infinity, which json has no form for; "),
        ("a.json", b"[1e999]", r"cannot be read: \[0\] is 1e999, which json has no form for; "),
        ("a.json", b"1" * 5000, "cannot be read: Exceeds the limit"),
        ("a.json.gz", b"[]", "cannot be read: Not a gzipped file"),
        ("a.json.gz", gzip.compress(b"[1, 2, 3]", mtime=0)[:-9], "cannot be read: .*ended before"),
    ],
)
def test_a_file_that_is_not_json_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{name} {message}"):
        read_json(write(tmp_path, content, name))


nested = ["[" * n + "]" * n for n in (MAX_DEPTH + 1, 900, 3000)]


@pytest.mark.parametrize(
    "text", [*nested, "[" * 10**6, '{"a":' * 10**5, '[0,{"a":' * 500 + "1" + "}]" * 500, '["\\ud800",' + nested[0] + "]"]
)
def test_deep_nesting_is_rejected_in_one_sentence(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{tmp_path}/a\.json is nested more than {MAX_DEPTH} levels deep"):
        read_json(write(tmp_path, text))
    assert read_json(write(tmp_path, "[" * MAX_DEPTH + "]" * MAX_DEPTH))


def test_a_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"^no such file: {tmp_path}/a\.json$"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "it must be an object of keys and values, got a list"),
        ({}, "entries is missing"),
        ({"entries": None}, "entries must be a list, got null"),
        ({"entries": [{"id": 3}, 4]}, r"entries\[1\] must be an object of keys and values, got 4"),
        ({"entries": [{"id": 3}, {"box": [1, 2, 3, 4]}]}, r"entries\[1\]: id is missing"),
        ({"entries": [{"id": 3, "box": [1, 2, 3]}]}, r"entries\[0\] \(id 3\): box must be a list of 4 entries, got 3"),
        ({"entries": [{"id": 3, "box": [1, 2, None, 3]}]}, r"entries\[0\] \(id 3\): box\[2\] must be a number, got null"),
        ({"entries": [{"id": [1]}]}, r"entries\[0\]: id must be an integer, got \[1\]"),
        ({"entries": [{"id": True}]}, r"entries\[0\]: id must be an integer, got true"),
        (
            {"entries": [{"id": 1, "names": "x" * 99}]},
            rf'entries\[0\] \(id 1\): names must be a list or null, got "{"x" * 36}\.\.\.',
        ),
        ({"entries": [{"id": 1, "names": [5]}]}, r"entries\[0\] \(id 1\): names\[0\] must be text, got 5"),
        ({"entries": [], "scores": {"a": "b"}}, r"scores\.\* must be a number, got text"),
    ],
)
def test_a_wrong_shape_is_named_by_file_entry_and_key(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^a\.json is not in toy form: {message}$"):
        check_shape(content, File, "a.json", "in toy form")


def test_a_right_shape_is_returned_without_the_keys_that_nobody_asked_for() -> None:
    content = {"entries": [{"id": 3, "box": [1, 2, 3, 4], "more": 5}], "info": {}}
    assert check_shape(content, File, "a.json", "in toy form") == {"entries": [{"id": 3, "box": (1, 2, 3, 4)}]}


def test_the_garbage_collector_runs_again_after_a_file_was_read_or_refused(tmp_path: Path) -> None:
    for text in ("[]", "{"):
        with contextlib.suppress(ValueError):
            read_json(write(tmp_path, text))
        assert gc.isenabled()
