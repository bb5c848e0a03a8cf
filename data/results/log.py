"""The diary of a long run: one json line an image, on disk before the next image starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from eigenseg.data.files import output_error

Record = dict[str, Any]
DONE, FAILED = "done", "failed"  # what a record's status may be
# What every line starts with, so that a line cut in half can be told from somebody else's file.
_BEGINNING = b'{"image": '


class ResultLog:
    """Records by image name, appended to a file and synchronized one by one.

    A record is a dict with at least ``image`` (its name) and ``status``. A later record of the same image replaces an
    earlier one. A line that a crash cut in half is dropped when the file is opened again.

    Args:
        path: the file; need not exist.

    Raises:
        ValueError: if the file holds something else.
        OutputError: if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        content = path.read_bytes() if path.exists() else b""
        whole, _, torn = content.rpartition(b"\n")
        if torn[: len(_BEGINNING)] != _BEGINNING[: len(torn)]:
            raise ValueError(f"{path} was not written by eigenseg; choose another output.dir")
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = json.loads(line)
                self.records[record["image"]] = record
                record["status"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path} line {number} is not a record of eigenseg; choose another output.dir") from None
        if torn:
            self._write(lambda: os.truncate(path, len(content) - len(torn)))

    def append(self, record: Record) -> None:
        """Add one record and wait until the disk has it."""
        # allow_nan: json has no NaN, and a record that no other program reads is worth nothing
        line = json.dumps({"image": record["image"], **record}, allow_nan=False).encode() + b"\n"
        name, before = record["image"], self.path.stat().st_size if self.path.exists() else 0

        def write() -> None:
            try:
                with open(self.path, "ab") as stream:
                    stream.write(line)
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError:
                # A full disk may have taken half a line.
                if self.path.exists():
                    os.truncate(self.path, before)
                raise

        self._write(write)
        self.records[name] = record

    def clear(self) -> None:
        """Forget everything, on disk too."""
        self._write(lambda: self.path.unlink(missing_ok=True))
        self.records.clear()

    def _write(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            raise output_error(self.path, error) from error
