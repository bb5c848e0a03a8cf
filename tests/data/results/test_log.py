"""Records are durable: after a crash or on a full disk, all records before the last line are read again."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from eigenseg.data.files import OutputError
from eigenseg.data.results import log as module
from eigenseg.data.results.log import ResultLog

RECORDS = [
    {"image": "a.jpg", "status": "done", "instances": 2, "annotations": [{"score": 0.5, "bbox": [0.0, 1.5, 2.0, 3.0]}]},
    {"image": "größe/犬.jpg", "status": "failed", "error": "a\nb\r\u2028c"},
    {"image": "b\r\udce9.jpg", "status": "done", "instances": 0, "reason": "flat"},
]


class HalfFull(io.FileIO):
    """A file on a disk that takes half of what is written and is full then."""

    def write(self, content: Any) -> int:
        super().write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def written(path: Path, records: list[dict[str, Any]] = RECORDS) -> bytes:
    manifest = ResultLog(path)
    for record in records:
        manifest.append(record)
    return path.read_bytes()


def by_name(*records: dict[str, Any]) -> dict[str, Any]:
    return {record["image"]: record for record in records}


def test_records_come_back_in_a_new_process(tmp_path: Path) -> None:
    content = written(tmp_path / "m.jsonl")
    assert ResultLog(tmp_path / "m.jsonl").records == by_name(*RECORDS)
    assert [json.loads(line) for line in content.decode().split("\n")[:-1]] == RECORDS
    assert (tmp_path / "m.jsonl").read_bytes() == content


def test_a_file_truncated_at_any_byte_keeps_every_complete_line_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of syncs would only be slow
    path = tmp_path / "m.jsonl"
    content = written(path)
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        complete = content[:cut].count(b"\n")
        partial = ResultLog(path)
        assert partial.records == by_name(*RECORDS[:complete])
        for record in RECORDS[complete:]:
            partial.append(record)
        assert path.read_bytes() == content


def test_the_later_of_two_records_wins_now_and_after_a_restart(tmp_path: Path) -> None:
    manifest = ResultLog(tmp_path / "m.jsonl")
    later = {"image": "a.jpg", "status": "done", "instances": 7}
    for record in (*RECORDS, later):
        manifest.append(record)
    expected = by_name(*RECORDS, later)
    assert manifest.records == expected
    assert ResultLog(tmp_path / "m.jsonl").records == expected


def test_a_record_is_complete_on_disk_after_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synchronized = tmp_path / "m.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda handle: synchronized.append((os.fstat(handle).st_ino, path.read_bytes())))
    content = written(path)
    lines = content.splitlines(keepends=True)
    assert synchronized == [(path.stat().st_ino, b"".join(lines[:n])) for n in (1, 2, 3)]


@pytest.mark.parametrize("existing", [0, 2])
def test_a_disk_that_fills_within_a_line_loses_that_record_only(
    existing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.jsonl"
    before = written(path, RECORDS[:existing]) if existing else b""
    manifest = ResultLog(path)
    monkeypatch.setattr(module, "open", HalfFull, raising=False)
    with pytest.raises(OutputError, match=f"cannot write {path}: the disk is full"):
        manifest.append(RECORDS[existing])
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert manifest.records == by_name(*RECORDS[:existing])
    manifest.append(RECORDS[existing])
    assert ResultLog(path).records == by_name(*RECORDS[: existing + 1])


def test_a_record_whose_sync_failed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    before = written(path, RECORDS[:1])
    manifest = ResultLog(path)

    def fail(_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="the disk quota is used up"):
        manifest.append(RECORDS[1])
    assert path.read_bytes() == before
    assert manifest.records == by_name(RECORDS[0])


def test_a_read_only_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = ResultLog(tmp_path / "m.jsonl")

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(module, "open", fail, raising=False)
    with pytest.raises(OutputError, match=r"m\.jsonl: the file system is read-only"):
        manifest.append(RECORDS[0])
    assert manifest.records == {}


@pytest.mark.parametrize("line", ["hello", '{"name": "a.jpg"}', "[1, 2]", '"image"', "17", '{"image": ["a.jpg"]}'])
def test_a_line_that_is_not_a_record_is_rejected_and_the_file_is_unchanged(line: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    content = json.dumps(RECORDS[0]) + f"\n{line}\n"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"{path} line 2 is not a record of eigenseg; choose another output.dir"):
        ResultLog(path)
    assert path.read_text() == content


def test_not_a_number_is_rejected_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    before = written(path)
    manifest = ResultLog(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifest.append({"image": "c.jpg", "status": "done", "score": float("nan")})
    assert path.read_bytes() == before
    assert manifest.records == by_name(*RECORDS)


def test_clear_also_removes_records_on_disk(tmp_path: Path) -> None:
    written(tmp_path / "m.jsonl")
    manifest = ResultLog(tmp_path / "m.jsonl")
    manifest.clear()
    manifest.clear()
    assert manifest.records == {}
    manifest.append(RECORDS[1])
    assert ResultLog(tmp_path / "m.jsonl").records == by_name(RECORDS[1])


def test_a_foreign_file_without_a_newline_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("my only notes")
    with pytest.raises(ValueError, match="was not written by eigenseg"):
        ResultLog(tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_text() == "my only notes"


def test_a_record_without_a_name_is_rejected_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises((KeyError, ValueError)):
        ResultLog(tmp_path / "m.jsonl").append({"status": "done"})
    assert ResultLog(tmp_path / "m.jsonl").records == {}
