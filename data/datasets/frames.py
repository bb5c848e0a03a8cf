"""Videos that are folders of pictures: their frames in order, and annotated frames stacked over time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.label_maps import read_label_map
from eigenseg.data.sources import IMAGE_SUFFIXES, ImageSource


def list_pictures(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The pictures right in a folder, in the order of the numbers in their names; none if there is no folder."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    return sorted(found, key=lambda path: in_order(path.name))


def list_folders(folder: Path) -> list[str]:
    """Names of the folders right in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def in_order(name: str) -> tuple[Any, ...]:
    """A sort key by which ``frame_9`` comes before ``frame_10``, however many zeros the names carry."""
    parts = re.split(r"([0-9]+)", name)
    return (*((text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], "-1"], strict=True)), name)


def frame_sources(folder: Path, sequence: str, annotated: Iterable[str], suffix: str = ".jpg") -> list[ImageSource]:
    """The frames of a video, named ``<sequence>/<stem><suffix>`` whether or not the pictures are there.

    Args:
        folder: where the pictures lie, if they are there.
        sequence: the video's name.
        annotated: stems of the annotated frames, which are listed even without a picture.
        suffix: of the names, and of pictures that are absent.
    """
    found = {path.stem: path for path in list_pictures(folder)}
    stems = sorted({*found, *annotated}, key=in_order)
    return [ImageSource(found.get(stem, folder / f"{stem}{suffix}"), f"{sequence}/{stem}{suffix}") for stem in stems]


def read_label_maps(paths: Sequence[Path]) -> NDArray[np.int32]:
    """Read the label maps of one video: (T, H, W) int32.

    Raises:
        ValueError: as ``read_label_map``, or if the sizes differ.
    """
    return np.stack(same_size([read_label_map(path) for path in paths], paths))


def same_size(maps: list[NDArray[Any]], paths: Sequence[Path]) -> list[NDArray[Any]]:
    """Refuse frames of different size within one video; the maps come back as they are.

    Raises:
        ValueError: naming the first that differs.
    """
    for one, path in zip(maps, paths, strict=True):
        if one.shape != maps[0].shape:
            raise ValueError(
                f"{path} has {one.shape[1]} x {one.shape[0]} pixels, {paths[0].name} beside it "
                f"{maps[0].shape[1]} x {maps[0].shape[0]}; all frames of a video must have one size"
            )
    return maps


def as_labels(maps: NDArray[np.int32], where: Path) -> NDArray[np.uint8]:
    """Turn label maps into bytes.

    Raises:
        ValueError: if a value is not in 0..255.
    """
    if maps.min() < 0 or maps.max() > 255:
        raise ValueError(f"{where} holds the label {int(maps.max())}; labels must be 0 to 255")
    return maps.astype(np.uint8)
