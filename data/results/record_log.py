"""The log of a long run: one line per image or clip, on disk before the next one counts as finished."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from eigenseg.data.files import output_error
from eigenseg.data.results.records import DONE, SCHEMA, Kind, Outline, Record, Stamp, Status, decode_json

# Every line starts with this, which tells a truncated line from a file of another program.
_BEGINNING = b'{"schema":'


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """Where a record lies in the log, and what is asked of it most often; some 300 bytes, whatever its masks are."""

    kind: Kind
    status: Status
    stamp: Stamp
    image_size: tuple[int, int] | None
    count: int
    complete: bool  # whether every frame could be read
    offset: int
    length: int

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.status == DONE

    def outline(self, name: str) -> Record:
        """The record without its result."""
        return Record(name, self.kind, self.status, self.stamp, self.image_size, count=self.count)


def read_entries(path: Path) -> tuple[dict[str, LogEntry], int]:
    """Index a log without keeping its records.

    Args:
        path: the file; need not exist.

    Returns:
        The last entry of each name, in the order of the names' first records, and the number of bytes up to the end of
        the last complete line. What follows is a line truncated by a crash.

    Raises:
        ValueError: if the file was not written by eigenseg with this schema.
    """
    entries: dict[str, LogEntry] = {}
    offset = 0
    if not path.exists():
        return entries, offset
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                if line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
                    raise ValueError(f"{path} was not written by eigenseg; choose another output.dir")
                break
            try:
                outline = decode_json(line, Outline)
                if outline.schema != SCHEMA:
                    raise ValueError
                Record.from_outline(outline)
            except ValueError:
                raise ValueError(f"{path} line {number} is not a record of eigenseg; choose another output.dir") from None
            entries[outline.name] = _entry(outline, offset, len(line))
            offset += len(line)
    return entries, offset


def read_records(path: Path, entries: Iterable[LogEntry]) -> Iterator[Record]:
    """Read records one by one.

    Args:
        path: the log.
        entries: of ``read_entries``.

    Raises:
        ValueError: if the file has changed since.
    """
    entries = iter(entries)
    first = next(entries, None)
    if first is None:
        return
    with open(path, "rb") as stream:
        for entry in (first, *entries):
            stream.seek(entry.offset)
            line = stream.read(entry.length)
            try:
                record = Record.from_line(line)
            except ValueError as error:
                raise ValueError(f"{path} has changed since it was opened: {error}") from None
            yield record


class RecordLog:
    """Records by name, appended to a file and synced one by one; from several threads at once.

    A later record of the same name replaces an earlier one. A line truncated by a crash is dropped when the file is opened
    again. Only offsets are kept in memory: a record is read when it is asked for.

    Args:
        path: the file; need not exist.

    Raises:
        ValueError: if the file was not written by eigenseg.
        OutputError: if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.entries, self._size = read_entries(path)
        if path.exists() and path.stat().st_size > self._size:
            self._write(lambda: os.truncate(path, self._size))

    def read(self, name: str) -> Record:
        """The last record of a name, without its large arrays.

        Raises:
            KeyError: if there is none.
        """
        return next(read_records(self.path, [self.entries[name]]))

    def ends_with(self, name: str, line: bytes) -> bool:
        """Whether the last record of a name is this line."""
        if name not in self.entries:
            return False
        entry = self.entries[name]
        with open(self.path, "rb") as stream:
            stream.seek(entry.offset)
            return stream.read(entry.length).rstrip(b"\n") == line

    def read_all(self, names: Iterable[str] | None = None) -> Iterator[Record]:
        """The last records of these names, of all if none are given, one at a time; names without a record are left out."""
        chosen = list(self.entries) if names is None else [name for name in names if name in self.entries]
        return read_records(self.path, (self.entries[name] for name in chosen))

    def append(self, record: Record, line: bytes | None = None) -> None:
        """Append one record and wait until it is on disk.

        Args:
            record: to append.
            line: ``record.to_line()``, if that was done before.
        """
        line = (record.to_line() if line is None else line) + b"\n"
        with self._lock:

            def write() -> None:
                try:
                    with open(self.path, "ab") as stream:
                        stream.write(line)
                        stream.flush()
                        os.fsync(stream.fileno())
                except OSError:
                    # A full disk may hold half a line.
                    if self.path.exists():
                        os.truncate(self.path, self._size)
                    raise

            self._write(write)
            outline = decode_json(line, Outline)
            self.entries[record.name] = _entry(outline, self._size, len(line))
            self._size += len(line)

    def clear(self) -> None:
        """Remove all records, also on disk."""
        with self._lock:
            self._write(lambda: self.path.unlink(missing_ok=True))
            self.entries.clear()
            self._size = 0

    def _write(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise output_error(self.path, error) from error


def _entry(outline: Outline, offset: int, length: int) -> LogEntry:
    return LogEntry(
        kind=outline.kind,
        status=outline.status,
        stamp=outline.stamp,
        image_size=outline.image_size,
        count=outline.count,
        complete=not outline.unreadable and outline.truncated is None,
        offset=offset,
        length=length,
    )
