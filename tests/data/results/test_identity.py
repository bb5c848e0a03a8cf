"""What files hold decides results, not where they lie or what they are called."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from eigenseg.data.results import identity as module
from eigenseg.data.results.identity import differences, file_sha256, resolve_identity

FILES = ("backbone.weights", "method.head")


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "head.pth").write_bytes(b"first")
    return tmp_path / "head.pth"


def settings(path: str) -> list[dict[str, Any]]:
    """The path at every depth at which a setting may name one."""
    return [
        {"method": {"head": path}},
        {"method": {"base": {"head": path}}},
        {"postprocess": [{"name": "crf"}, {"sam": {"checkpoint": path}}]},
        {"method": {"base": {"first": {"model": {"weights": [path]}}}}},
        {"anything": path},
    ]


@pytest.mark.parametrize("depth", range(5))
def test_a_file_that_is_replaced_under_the_same_name_is_noticed(depth: int, head: Path) -> None:
    before = resolve_identity(settings(str(head))[depth], FILES)
    assert hashlib.sha256(b"first").hexdigest() in json.dumps(before)
    head.write_bytes(b"other")
    now = resolve_identity(settings(str(head))[depth], FILES)
    assert now != before
    assert len(differences(before, now)) == 1


@pytest.mark.parametrize("depth", range(5))
def test_a_file_that_moves_is_the_same(depth: int, head: Path) -> None:
    before = resolve_identity(settings("head.pth")[depth], FILES)
    (head.parent / "deep").mkdir()
    head.rename(head.parent / "deep" / "renamed.pth")
    assert resolve_identity(settings("deep/renamed.pth")[depth], FILES) == before


def test_a_replaced_file_of_equal_size_and_other_time_is_read_again(head: Path) -> None:
    before = file_sha256(head)
    head.write_bytes(b"third")
    os.utime(head, ns=(1, 1))
    assert file_sha256(head) == hashlib.sha256(b"third").hexdigest() != before


def test_an_unchanged_file_is_read_once(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = file_sha256(head)
    monkeypatch.setattr(module, "open", None, raising=False)
    assert file_sha256(str(head)) == first
    os.utime(head, ns=(2, 2))
    with pytest.raises(TypeError):
        file_sha256(head)


def test_a_large_file_is_hashed_completely(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "large.bin").write_bytes(content)
    assert file_sha256(tmp_path / "large.bin") == hashlib.sha256(content).hexdigest()


def test_only_declared_settings_name_files_without_suffix_or_folder(head: Path) -> None:
    head.rename("plain")
    resolved = resolve_identity({"method": {"head": "plain", "name": "plain"}, "backbone": {"name": "plain"}}, FILES)
    digest = {"sha256": hashlib.sha256(b"first").hexdigest()}
    assert resolved == {"method": {"head": digest, "name": "plain"}, "backbone": {"name": "plain"}}
    assert resolve_identity({"method": {"base": {"head": "plain"}}}, FILES) == {"method": {"base": {"head": digest}}}


def test_everything_that_is_no_file_stays(head: Path) -> None:
    (head.parent / "tokencut.TokenCut").write_text("a file that is called like a class")
    given = {
        "method": {"_target_": "tokencut.TokenCut", "head": "absent.pth", "tau": 0.2, "eps": None, "on": True},
        "backbone": {"weights": "https://example.org/a.pth", "folder": str(head.parent), "empty": ""},
        "scales": (1, 2),
    }
    assert resolve_identity(given, FILES) == {**given, "scales": [1, 2]}


def test_an_unreadable_file_is_named(head: Path) -> None:
    with pytest.raises(ValueError, match="absent.pth cannot be read"):
        file_sha256("absent.pth")


def test_differences_name_every_setting_once() -> None:
    before = {"method": {"_target_": "A", "tau": 0.2, "deep": {"a": 1}}, "input": "x", "same": [1]}
    now = {"method": {"_target_": "A", "tau": 0.3, "deep": {"a": 1, "b": None}}, "input": "y", "same": [1]}
    assert differences(before, now) == [
        "input (x before, y now)",
        "method.deep.b (absent before, None now)",
        "method.tau (0.2 before, 0.3 now)",
    ]
    assert differences(before, before) == []


def test_of_two_classes_only_the_class_is_named() -> None:
    before, now = {"method": {"_target_": "A", "tau": 0.2}}, {"method": {"_target_": "B", "scales": 3}}
    assert differences(before, now) == ["method._target_ (A before, B now)"]


def test_of_hashes_the_first_digits_are_told() -> None:
    before, now = ({"head": {"sha256": hashlib.sha256(text).hexdigest()}} for text in (b"first", b"second"))
    assert differences(before, now) == ["head.sha256 (a7937b64b8ca before, 16367aacb67a now)"]
