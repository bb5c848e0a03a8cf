"""Saliency: images in one folder, gray saliency masks in another.

::

    root/
      images/0001.jpg                  ECSSD; other datasets have other folders, see configs/dataset
      ground_truth_mask/0001.png

Both folders are searched recursively, and a mask belongs to the image with the same path below its folder, ignoring
suffixes. Folders of videos are read as well: ``JPEGImages/480p`` with ``Annotations/480p``.

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

# Placeholder for the image folder of a dataset that was created without one.
_NO_FOLDER = Path("no-folder-of-images-was-given")


class SaliencyFolder:
    """Images with one gray mask each.

    Args:
        images: the folder of images; None to score predictions without them, items are then named after the masks.
        masks: the folder of masks. Every mask is an item.
        title: name of the dataset.
        origin: where to get it.
        root: folder that ``images`` and ``masks`` are relative to; the working directory by default.

    Raises:
        FileNotFoundError: if a folder is missing.
        ValueError: if a folder is empty, a mask has no image, or two files differ in their suffix alone.
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
        hint = "root" if root is not None else "root or dataset.{}"
        mask_sources = _by_stem(require(base / masks, title, origin, hint.format("masks")), "masks")
        if images is None:
            sources = {stem: ImageSource(_NO_FOLDER / mask.name, mask.name) for stem, mask in mask_sources.items()}
        else:
            sources = _by_stem(require(base / images, title, origin, hint.format("images")), "images", only=mask_sources)
            missing = [mask for stem, mask in mask_sources.items() if stem not in sources]
            if missing:
                raise ValueError(
                    f"{title}: {len(missing)} of {len(mask_sources)} masks have no image below "
                    f"{base / images}, the first is {missing[0].name}; complete the images, or set dataset.images=null "
                    "to score predictions without them"
                )
        pairs = sorted(
            (source.name, source, mask_sources[stem].path) for stem, source in sources.items() if stem in mask_sources
        )
        self.items = [name for name, _, _ in pairs]
        self.unannotated = len(sources) - len(pairs)
        self._sources, self._masks = [source for _, source, _ in pairs], [mask for _, _, mask in pairs]

    def images(self, index: int) -> list[ImageSource]:
        """The image of an item."""
        return [self._sources[index]]

    def annotation(self, index: int) -> NDArray[np.uint8]:
        """The mask: (H, W) uint8 gray as in the file."""
        return read_gray_map(self._masks[index])


def _by_stem(folder: Path, what: str, only: dict[str, ImageSource] | None = None) -> dict[str, ImageSource]:
    by_stem: dict[str, ImageSource] = {}
    for source in find_images(folder):
        stem = PurePosixPath(source.name).with_suffix("").as_posix()
        if stem in by_stem and (only is None or stem in only):
            raise ValueError(
                f"{folder} holds two {what} that differ in their suffix alone: {by_stem[stem].name}, {source.name}"
            )
        by_stem[stem] = source
    return by_stem
