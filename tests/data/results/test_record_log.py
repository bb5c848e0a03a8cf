"""Records are durable: after a crash or on a full disk, all records before the last line are read again."""

from __future__ import annotations

import errno
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenseg.data import Instances
from eigenseg.data.files import OutputError
from eigenseg.data.results import record_log as module
from eigenseg.data.results.record_log import RecordLog
from eigenseg.data.results.records import Record

ONE = Instances(np.ones((1, 4, 5), bool), [0.5], [[0.0, 1.5, 2.0, 3.0]], (4, 5))
RECORDS = [
    Record.of("a.jpg", [1, 2], ONE),
    Record.failure("größe/犬.jpg", "image", [3, 4], "a\nb\r\u2028c"),
    Record.of("b\r\udce9.jpg", None, Instances.empty((4, 5), "flat")),
]
LATER = Record.of("a.jpg", [1, 2], Instances.empty((4, 5), "later"))


class HalfFull(io.FileIO):
    """A file on a disk that takes half of what is written and is full then."""

    def write(self, content: Any) -> int:
        super().write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def written(path: Path, records: list[Record] = RECORDS) -> bytes:
    log = RecordLog(path)
    for record in records:
        log.append(record)
    return path.read_bytes() if records else b""


def lines(log: RecordLog) -> dict[str, bytes]:
    """Records by name, as lines; also that the index agrees with them."""
    records = list(log.read_all())
    for record in records:
        entry = log.entries[record.name]
        assert (entry.kind, entry.status, entry.stamp, entry.count) == (
            record.kind, record.status, record.stamp, record.count,
        )  # fmt: skip
        assert log.read(record.name).to_line() == record.to_line()
    return {record.name: record.to_line() for record in records}


def by_name(*records: Record) -> dict[str, bytes]:
    return {record.name: record.to_line() for record in records}


def test_records_come_back_in_a_new_process(tmp_path: Path) -> None:
    content = written(tmp_path / "m.jsonl")
    assert lines(RecordLog(tmp_path / "m.jsonl")) == by_name(*RECORDS)
    assert [json.loads(line)["name"] for line in content.split(b"\n")[:-1]] == [record.name for record in RECORDS]
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
        partial = RecordLog(path)
        assert list(partial.entries) == [record.name for record in RECORDS[:complete]]
        for record in RECORDS[complete:]:
            partial.append(record)
        assert path.read_bytes() == content


def test_the_later_of_two_records_wins_now_and_after_a_restart(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "m.jsonl")
    for record in (*RECORDS, LATER):
        log.append(record)
    expected = by_name(*RECORDS, LATER)
    assert lines(log) == expected
    assert lines(RecordLog(tmp_path / "m.jsonl")) == expected


def test_a_record_is_complete_on_disk_after_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synchronized = tmp_path / "m.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda handle: synchronized.append((os.fstat(handle).st_ino, path.read_bytes())))
    content = written(path)
    parts = content.splitlines(keepends=True)
    assert synchronized == [(path.stat().st_ino, b"".join(parts[:n])) for n in (1, 2, 3)]


def test_threads_append_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    log = RecordLog(tmp_path / "m.jsonl")
    records = [Record.of(f"{i}.jpg", [i, i], Instances.empty((4, 5), "flat" * (i % 50))) for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log.append, records))
    assert lines(log) == by_name(*records)
    assert lines(RecordLog(tmp_path / "m.jsonl")) == by_name(*records)


@pytest.mark.parametrize("existing", [0, 2])
def test_a_disk_that_fills_within_a_line_loses_that_record_only(
    existing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.jsonl"
    before = written(path, RECORDS[:existing])
    log = RecordLog(path)
    monkeypatch.setattr(module, "open", HalfFull, raising=False)
    with pytest.raises(OutputError, match=f"cannot write {path}: the disk is full"):
        log.append(RECORDS[existing])
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert lines(log) == by_name(*RECORDS[:existing])
    log.append(RECORDS[existing])
    assert lines(RecordLog(path)) == by_name(*RECORDS[: existing + 1])


def test_a_record_whose_sync_failed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    before = written(path, RECORDS[:1])
    log = RecordLog(path)

    def fail(_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="the disk quota is used up"):
        log.append(RECORDS[1])
    assert path.read_bytes() == before
    assert lines(log) == by_name(RECORDS[0])


def test_a_read_only_file_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RecordLog(tmp_path / "m.jsonl")

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(module, "open", fail, raising=False)
    with pytest.raises(OutputError, match=r"m\.jsonl: the file system is read-only"):
        log.append(RECORDS[0])
    assert log.entries == {}


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        '{"image": "a.jpg", "status": "done"}',
        "[1, 2]",
        '"schema"',
        "17",
        '{"schema": 2, "name": ["a.jpg"], "kind": "image", "status": "done"}',
        '{"schema": 2, "name": "../a.jpg", "kind": "image", "status": "done"}',
        '{"schema": 3, "name": "a.jpg", "kind": "image", "status": "done"}',
        '{"schema": 2, "name": "a.jpg", "kind": "image", "status": "half"}',
    ],
)
def test_a_line_that_is_not_a_record_is_rejected_and_the_file_is_unchanged(line: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    content = RECORDS[0].to_line().decode() + f"\n{line}\n"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"{path} line 2 is not a record of eigenseg; choose another output.dir"):
        RecordLog(path)
    assert path.read_text() == content


def test_clear_also_removes_records_on_disk(tmp_path: Path) -> None:
    written(tmp_path / "m.jsonl")
    log = RecordLog(tmp_path / "m.jsonl")
    log.clear()
    log.clear()
    assert log.entries == {}
    log.append(RECORDS[1])
    assert lines(RecordLog(tmp_path / "m.jsonl")) == by_name(RECORDS[1])


def test_a_foreign_file_without_a_newline_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("my only notes")
    with pytest.raises(ValueError, match="was not written by eigenseg"):
        RecordLog(tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_text() == "my only notes"
