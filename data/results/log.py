"""The log of a long run: one json line per image, on disk before the next image starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from eigenseg.data.files import output_error

Record = dict[str, Any]
DONE, FAILED = "done", "failed"  # what a record's status may be
# Every line starts with this, which tells a truncated line from a file of another program.
_BEGINNING = b'{"image": '


class ResultLog:
    """Records by image name, appended to a file and synced one by one.

    A record is a dict with at least ``image`` (its name) and ``status``. A later record of the same image replaces an
    earlier one. A line truncated by a crash is dropped when the file is opened again.

    Args:
        path: the file; need not exist.

    Raises:
        ValueError: if the file was not written by eigenseg.
        OutputError: if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        content = path.read_bytes() if path.exists() else b""
        whole, _, partial = content.rpartition(b"\n")
        if partial[: len(_BEGINNING)] != _BEGINNING[: len(partial)]:
            raise ValueError(f"{path} was not written by eigenseg; choose another output.dir")
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = json.loads(line)
                self.records[record["image"]] = record
                record["status"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path} line {number} is not a record of eigenseg; choose another output.dir") from None
        if partial:
            self._write(lambda: os.truncate(path, len(content) - len(partial)))

    def append(self, record: Record) -> None:
        """Append one record and wait until it is on disk."""
        # allow_nan: json has no NaN, and other programs could not read the record
        line = json.dumps({"image": record["image"], **record}, allow_nan=False).encode() + b"\n"
        name, before = record["image"], self.path.stat().st_size if self.path.exists() else 0

        def write() -> None:
            try:
                with open(self.path, "ab") as stream:
                    stream.write(line)
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError:
                # A full disk may hold half a line.
                if self.path.exists():
                    os.truncate(self.path, before)
                raise

        self._write(write)
        self.records[name] = record

    def clear(self) -> None:
        """Remove all records, also on disk."""
        self._write(lambda: self.path.unlink(missing_ok=True))
        self.records.clear()

    def _write(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            raise output_error(self.path, error) from error
