"""Saliency: pictures in one folder, gray masks of what stands out in another.

::

    root/
      images/0001.jpg                  ECSSD; other sets have other folders, see configs/dataset
      ground_truth_mask/0001.png

Both folders are searched with all their subfolders, and a mask belongs to the picture with the same path below its folder,
suffixes left out. So trees of videos are read as well: ``JPEGImages/480p`` with ``Annotations/480p``.

ECSSD: https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html, DUTS: http://saliencydetection.net/duts/,
DUT-OMRON: http://saliencydetection.net/dut-omron/, SOD: http://elderlab.yorku.ca/SOD/.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import Kind, require
from eigenseg.data.label_maps import read_gray_map
from eigenseg.data.sources import ImageSource, find_images

# Stands for the folder of pictures in the sources of a dataset that was made without one.
_NOWHERE = Path("no-folder-of-images-was-given")


class SaliencyFolder:
    """Pictures with one gray mask each.

    Args:
        images: the folder of pictures; None if predictions are scored without them, the items then bear the masks' names.
        masks: the folder of masks. They decide what the items are.
        title: what people call the dataset.
        origin: where people get it.
        root: what ``images`` and ``masks`` are relative to; the working directory if not given.

    Raises:
        FileNotFoundError: if a folder is missing.
        ValueError: if a folder is empty, a mask has no picture, or two files differ in their suffix alone.
    """

    kind: ClassVar[Kind] = "saliency"
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        images: str | os.PathLike[str] | None,
        masks: str | os.PathLike[str],
        title: str = "saliency",
        origin: str = "the page of the dataset",
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        self.title, base = title, Path(root or "")
        found = _by_stem(require(base / masks, title, origin), "masks")
        if images is None:
            sources = {stem: ImageSource(_NOWHERE / mask.name, mask.name) for stem, mask in found.items()}
        else:
            sources = _by_stem(require(base / images, title, origin), "pictures", wanted=found)
            missing = [mask for stem, mask in found.items() if stem not in sources]
            if missing:
                raise ValueError(
                    f"{title}: {len(missing)} of {len(found)} masks have no picture below {base / images}, the first is "
                    f"{missing[0].name}; complete the pictures, or give images=null to score predictions without them"
                )
        pairs = sorted((source.name, source, found[stem].path) for stem, source in sources.items() if stem in found)
        self.items = [name for name, _, _ in pairs]
        self.unannotated = len(sources) - len(pairs)
        self._sources, self._masks = [source for _, source, _ in pairs], [mask for _, _, mask in pairs]

    def images(self, index: int) -> list[ImageSource]:
        """The picture of an item."""
        return [self._sources[index]]

    def annotation(self, index: int) -> NDArray[np.uint8]:
        """The mask: (H, W) uint8 gray as in the file."""
        return read_gray_map(self._masks[index])


def _by_stem(folder: Path, what: str, wanted: dict[str, ImageSource] | None = None) -> dict[str, ImageSource]:
    by_stem: dict[str, ImageSource] = {}
    for source in find_images(folder):
        stem = PurePosixPath(source.name).with_suffix("").as_posix()
        if stem in by_stem and (wanted is None or stem in wanted):
            raise ValueError(
                f"{folder} holds two {what} that differ in their suffix alone: {by_stem[stem].name}, {source.name}"
            )
        by_stem[stem] = source
    return by_stem
