"""The writer interface: a record, and the image or clip that it is of, in; files of one kind out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from eigenseg.data.results.records import Kind, Record

P = TypeVar("P")


class Writer:
    """Base of writers: a subclass says ``name``, ``paths`` and ``write``, and whatever differs from the defaults.

    Attributes:
        name: the folder of its files, below the root.
        kind: of the records that it writes.
        needs_pixels: whether it needs the image or clip beside the record.
        needs_content: whether ``paths`` needs more of an image's record than name and count.
        settings: what changes its files but not their names, as json values: files of other settings are written again.
    """

    name: str
    kind: Kind = "image"
    needs_pixels: bool = False
    needs_content: bool = False
    settings: Mapping[str, Any] = MappingProxyType({})

    def paths(self, record: Record) -> list[str]:
        """Its files, relative to the root."""
        raise NotImplementedError

    def needs_arrays(self, record: Record) -> tuple[str, ...]:
        """Names of the large arrays without which it cannot write; none by default."""
        return ()

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write all files of a record, each atomically; any thread may call it.

        Args:
            root: folder of the results.
            record: with the arrays that it needs.
            pixels: the image, (H, W, 3) uint8 RGB, or the ``Clip``; may be None unless ``needs_pixels``.

        Raises:
            ValueError: if the result has no such file form.
            OutputError: if they cannot be written.
        """
        raise NotImplementedError


def require_pixels(record: Record, pixels: P | None) -> P:
    """The image or clip of a record.

    Raises:
        ValueError: if it was not given.
    """
    if pixels is None:
        raise ValueError(f"{record.name}: this writer needs the {record.kind} itself; pass it as pixels")
    return pixels
