"""Tiny datasets for tests: image and text files, and a comparison after pickling."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from eigenseg.data import RleMasks


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def save(path: Path, values: ArrayLike, palette: bool = False) -> Path:
    """Save an array as an image, optionally with a palette in which index and gray differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if palette:
        image.putpalette([(7 * i + 90) % 256 for i in range(768)])
        assert image.mode == "P"
    image.save(path)
    return path


def assert_same_after_pickling(dataset: Any) -> None:
    """A worker process sees the same dataset."""
    copy = pickle.loads(pickle.dumps(dataset))
    assert (copy.kind, copy.title, copy.classes, list(copy.items)) == (
        dataset.kind,
        dataset.title,
        dataset.classes,
        list(dataset.items),
    )
    assert len(dataset.items) > 0
    for i in range(len(dataset.items)):
        assert copy.images(i) == dataset.images(i)
        mine, other = dataset.annotation(i), copy.annotation(i)
        assert type(mine) is type(other)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, other, strict=True)
            continue
        for field in fields(mine):
            one, two = getattr(mine, field.name), getattr(other, field.name)
            if isinstance(one, RleMasks):
                assert one.rles == two.rles
            elif isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, two, strict=True)
            else:
                assert one == two
