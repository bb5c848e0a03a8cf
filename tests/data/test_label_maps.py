"""Annotations stored as images are read with the stored values, and anything else is rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_files import save

from eigenseg.data.label_maps import read_gray_map, read_label_map

values: NDArray[np.uint8] = np.array([[0, 1, 2], [7, 254, 255]], dtype=np.uint8)


@pytest.mark.parametrize("palette", [True, False])
def test_a_label_map_gives_indices_and_not_colors(tmp_path: Path, palette: bool) -> None:
    labels = read_label_map(save(tmp_path / "a.png", values, palette=palette))
    np.testing.assert_array_equal(labels, values.astype(np.int32), strict=True)


def test_labels_of_sixteen_bits_and_of_one_bit_are_read(tmp_path: Path) -> None:
    many = np.array([[0, 255, 256], [1000, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(many).save(tmp_path / "many.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "many.png"), many.astype(np.int32), strict=True)
    Image.fromarray(values > 3).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "bits.png"), np.where(values > 3, 255, 0).astype(np.int32))


def test_a_gray_map_is_the_luma_of_the_shown_colors(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_gray_map(save(tmp_path / "gray.png", values)), values, strict=True)
    Image.fromarray(values > 3).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(
        read_gray_map(tmp_path / "bits.png"), np.where(values > 3, 255, 0).astype(np.uint8), strict=True
    )
    color = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [80, 80, 80]]], dtype=np.uint8)
    luma = np.round(color @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    np.testing.assert_array_equal(read_gray_map(save(tmp_path / "color.png", color)), luma, strict=True)
    Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).save(tmp_path / "palette.png")
    image = Image.open(tmp_path / "palette.png")
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_gray_map(tmp_path / "palette.png"), [[10, 200]])


def test_a_cutout_is_no_gray_map_and_an_opaque_alpha_channel_is_ignored(tmp_path: Path) -> None:
    pixels = np.full((*values.shape, 4), 90, dtype=np.uint8)
    pixels[..., 3] = 255
    np.testing.assert_array_equal(read_gray_map(save(tmp_path / "opaque.png", pixels)), np.full(values.shape, 90))
    pixels[..., 3] = values
    cutout = Image.fromarray(pixels)
    cutout.save(tmp_path / "rgba.png")
    cutout.convert("LA").save(tmp_path / "la.png")
    cutout.quantize(4).save(tmp_path / "palette.png")
    for name in ("rgba", "la", "palette"):
        with pytest.raises(ValueError, match=rf"{name}\.png has an alpha channel that is not opaque everywhere"):
            read_gray_map(tmp_path / f"{name}.png")
    Image.fromarray(values).save(tmp_path / "key.png", transparency=0)
    np.testing.assert_array_equal(read_gray_map(tmp_path / "key.png"), values)


def test_a_map_that_was_read_is_writable(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", values)
    for read in (read_label_map, read_gray_map):
        read(path)[0, 0] = 5
    np.testing.assert_array_equal(read_label_map(path), values)


def test_a_file_that_is_not_a_map_is_rejected(tmp_path: Path) -> None:
    color = save(tmp_path / "color.png", np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=r"color\.png has mode RGB; a label map has one channel"):
        read_label_map(color)
    Image.fromarray(np.zeros((2, 2), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has mode I;16; a gray map has 8 bits"):
        read_gray_map(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(
        save(tmp_path / "big.png", np.arange(10000).reshape(100, 100) % 251).read_bytes()[:400]
    )
    for read in (read_label_map, read_gray_map):
        with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.png"):
            read(tmp_path / "none.png")
        with pytest.raises(ValueError, match=r"text\.png is not an image that Pillow can read"):
            read(tmp_path / "text.png")
        with pytest.raises(ValueError, match=r"cut\.png cannot be decoded, it is truncated or damaged"):
            read(tmp_path / "cut.png")
