"""Label maps are written in the colors of the official annotations and read back with equal numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from eigenseg.data import DAVIS_PALETTE, write_label_map
from eigenseg.data.label_maps import read_label_map

# As the VOC development kit lists them: background to tvmonitor, and void.
VOC = {
    0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128), 6: (0, 128, 128),
    7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0), 10: (64, 128, 0), 11: (192, 128, 0), 12: (64, 0, 128),
    13: (192, 0, 128), 14: (64, 128, 128), 15: (192, 128, 128), 16: (0, 64, 0), 17: (128, 64, 0), 18: (0, 192, 0),
    19: (128, 192, 0), 20: (0, 64, 128), 255: (224, 224, 192),
}  # fmt: skip


def test_the_colors_are_those_of_pascal_voc() -> None:
    assert {number: tuple(DAVIS_PALETTE[number].tolist()) for number in VOC} == VOC
    assert (DAVIS_PALETTE.shape, DAVIS_PALETTE.dtype) == ((256, 3), np.uint8)
    assert len(np.unique(DAVIS_PALETTE, axis=0)) == 256


def test_the_official_annotations_hold_the_first_colors_of_the_palette(test_data: Path) -> None:
    paths = sorted((test_data / "davis" / "Annotations_unsupervised").rglob("*.png"))
    assert paths
    for path in paths:
        with Image.open(path) as image:
            assert image.mode == "P"
            table, used = np.array(image.getpalette()).reshape(-1, 3), int(np.asarray(image).max()) + 1
        np.testing.assert_array_equal(table[:used], DAVIS_PALETTE[:used])
        assert not table[used:].any()


@settings(deadline=None)
@given(
    labels=arrays(
        np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 65535) | st.integers(0, 255)
    )
)
def test_a_label_map_is_read_back_and_its_colors_are_the_palettes(labels: Any, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("labels") / "new" / "a.png"
    write_label_map(path, labels)
    np.testing.assert_array_equal(read_label_map(path), labels, strict=True)
    with Image.open(path) as image:
        assert image.mode == ("P" if labels.max() <= 255 else "I;16")
        if labels.max() <= 255:
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), DAVIS_PALETTE[labels])


@pytest.mark.parametrize("highest", [255, 256])
def test_above_255_the_image_has_16_bits(tmp_path: Path, highest: int) -> None:
    labels = np.full((3, 4), highest)
    write_label_map(tmp_path / "a.png", labels)
    header = (tmp_path / "a.png").read_bytes()[:26]
    depth, color = header[24], header[25]  # of the IHDR chunk; color 3 is indexed, 0 is gray
    assert (depth, color) == ((8, 3) if highest == 255 else (16, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint16])
def test_equal_labels_give_equal_bytes_whatever_their_type_and_order_in_memory(tmp_path: Path, dtype: Any) -> None:
    labels = np.arange(60).reshape(6, 10) % 7
    write_label_map(tmp_path / "a.png", labels)
    write_label_map(tmp_path / "b.png", np.asfortranarray(labels.astype(dtype)))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "labels", "error", "message"),
    [
        ("a.jpg", np.zeros((2, 2), int), ValueError, r"path must end in \.png, got .*a\.jpg"),
        ("a.png", np.zeros((2, 2)), TypeError, "labels must be integers, got float64"),
        ("a.png", np.zeros((2, 2), bool), TypeError, "labels must be integers, got bool"),
        (
            "a.png",
            np.zeros((2, 2, 3), int),
            ValueError,
            r"labels must be \(H, W\) with at least one pixel, got \(2, 2, 3\)",
        ),
        ("a.png", np.zeros((0, 2), int), ValueError, r"labels must be \(H, W\) with at least one pixel, got \(0, 2\)"),
        ("a.png", np.array([[-1, 5]]), ValueError, r"labels must lie in \[0, 65535\], .* got -1 to 5"),
        ("a.png", np.array([[0, 65536]]), ValueError, "got 0 to 65536"),
    ],
)
def test_labels_that_a_png_cannot_hold_are_rejected_and_nothing_is_written(
    tmp_path: Path, name: str, labels: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_label_map(tmp_path / name, labels)
    assert not list(tmp_path.iterdir())
