"""Images without annotations, for what learns without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from eigenseg.data.datasets.base import Kind
from eigenseg.data.sources import ImageSource, find_images


class UnlabeledImages:
    """The images that an input names, as a dataset without annotations.

    Args:
        source: a file, a folder with its subfolders, a glob pattern, a .txt list, or a sequence of paths.

    Raises:
        FileNotFoundError: if there is no image.
    """

    kind: ClassVar[Kind] = "objects"
    classes: tuple[str, ...] = ()

    def __init__(self, source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        self._sources = find_images(source)
        self.title = f"images of {os.fspath(source)}" if isinstance(source, (str, os.PathLike)) else "images"
        self.items: Sequence[str] = [one.name for one in self._sources]

    def images(self, index: int) -> list[ImageSource]:
        """The image."""
        return [self._sources[index]]

    def annotation(self, index: int) -> Any:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.title} have no annotations; choose a dataset=NAME that has them instead of input")
