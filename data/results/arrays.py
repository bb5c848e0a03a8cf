"""Large arrays of records, such as eigenvectors and soft maps: ``arrays/<name>.npz``."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.files import write_bytes
from eigenseg.data.results.base import Writer
from eigenseg.data.results.records import Kind, Record


class ArrayWriter(Writer):
    """``arrays/<name>.npz``, compressed; equal arrays give equal bytes. ``np.load(path)`` reads it.

    Args:
        kind: of the records.
    """

    name = "arrays"

    def __init__(self, kind: Kind = "image") -> None:
        self.kind = kind

    def paths(self, record: Record) -> list[str]:
        """The one file of all arrays."""
        return [array_path(record.name)]

    def needs_arrays(self, record: Record) -> tuple[str, ...]:
        """All of them."""
        return tuple(record.array_shapes())

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write it."""
        buffer = io.BytesIO()
        arrays: Any = record.arrays
        np.savez_compressed(buffer, **arrays)
        write_bytes(root / self.paths(record)[0], buffer.getvalue())


def array_path(name: str) -> str:
    """Where the large arrays of a record lie, relative to the root."""
    return f"arrays/{name}.npz"


def read_arrays(root: Path, name: str) -> dict[str, NDArray[Any]]:
    """The large arrays of a record by name, empty if none were written.

    Raises:
        ValueError: if the file is damaged.
    """
    path = root / array_path(name)
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as content:
            return dict(content)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}; remove it to compute it again") from None
