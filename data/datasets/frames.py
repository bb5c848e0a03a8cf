"""Videos that are folders of images: their frames in order, and annotated frames stacked over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.label_maps import read_label_map
from eigenseg.data.sources import ImageSource, in_order, list_images as list_images


def list_folders(folder: Path) -> list[str]:
    """Names of the folders directly in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def frame_sources(folder: Path, sequence: str, annotated: Iterable[str], suffix: str = ".jpg") -> list[ImageSource]:
    """The frames of a video, named ``<sequence>/<stem><suffix>`` even if the images are absent.

    Args:
        folder: with the images, if there are any.
        sequence: the video's name.
        annotated: stems of the annotated frames, which are listed even without an image.
        suffix: of the names, and of images that are absent.
    """
    images = {path.stem: path for path in list_images(folder)}
    stems = sorted({*images, *annotated}, key=in_order)
    return [ImageSource(images.get(stem, folder / f"{stem}{suffix}"), f"{sequence}/{stem}{suffix}") for stem in stems]


def read_label_maps(paths: Sequence[Path]) -> NDArray[np.int32]:
    """Read the label maps of one video: (T, H, W) int32.

    Raises:
        ValueError: as ``read_label_map``, or if the sizes differ.
    """
    return np.stack(same_size([read_label_map(path) for path in paths], paths))


def same_size(maps: list[NDArray[Any]], paths: Sequence[Path]) -> list[NDArray[Any]]:
    """Raise if the maps of a video differ in size; otherwise return them unchanged.

    Raises:
        ValueError: naming the first that differs.
    """
    for one, path in zip(maps, paths, strict=True):
        if one.shape != maps[0].shape:
            raise ValueError(
                f"{path} has {one.shape[1]} x {one.shape[0]} pixels, {paths[0].name} has "
                f"{maps[0].shape[1]} x {maps[0].shape[0]}; all frames of a video must have one size"
            )
    return maps


def as_labels(maps: NDArray[np.int32], where: Path) -> NDArray[np.uint8]:
    """Convert label maps to uint8.

    Raises:
        ValueError: if a value is not in 0..255.
    """
    if maps.min() < 0 or maps.max() > 255:
        raise ValueError(f"{where} holds the label {int(maps.max())}; labels must be 0 to 255")
    return maps.astype(np.uint8)
