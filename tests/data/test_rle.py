"""Our RLEs equal those of pycocotools, and RleMasks behave like the array they represent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference
from pycocotools.coco import COCO

from eigenseg.data import RleMasks, decode_mask, encode_masks
from eigenseg.data.rle import BoolArray, encode_segmentation, mask_areas

# pycocotools' own result type does not know NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

stacks = arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)))
five = np.random.default_rng(0).random((5, 6, 7)) < 0.5


@settings(deadline=None)
@given(stacks)
def test_pycocotools_decodes_what_we_encode(masks: BoolArray) -> None:
    rles = encode_masks(masks)
    assert len(rles) == len(masks)
    for rle, mask in zip(rles, masks, strict=True):
        assert isinstance(rle["counts"], str)
        assert rle["counts"].isascii()
        np.testing.assert_array_equal(reference.decode(rle), mask)


@settings(deadline=None)
@given(stacks)
def test_we_decode_what_pycocotools_encodes_and_count_its_areas(masks: BoolArray) -> None:
    rles = [reference.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    texts = [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in rles]
    for text, mask in zip(texts, masks, strict=True):
        decoded = decode_mask(text)  # type: ignore[arg-type]
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)
    assert mask_areas(texts) == [int(mask.sum()) for mask in masks]  # type: ignore[arg-type]


@pytest.mark.parametrize("memory", [np.asfortranarray, lambda masks: np.repeat(masks, 2, axis=2)[:, :, ::2]])
def test_the_encoding_does_not_depend_on_the_order_in_memory(memory: Any) -> None:
    assert encode_masks(memory(five)) == encode_masks(np.ascontiguousarray(five))


@settings(deadline=None)
@given(stacks)
def test_rle_masks_convert_to_the_array_they_represent(masks: BoolArray) -> None:
    kept = RleMasks(encode_masks(masks), masks.shape[1:])
    assert (kept.shape, kept.dtype, kept.ndim, len(kept)) == (masks.shape, masks.dtype, masks.ndim, len(masks))
    np.testing.assert_array_equal(np.asarray(kept), masks, strict=True)
    np.testing.assert_array_equal(np.asarray(kept, dtype=np.float32), masks.astype(np.float32), strict=True)
    for one, mask in zip(kept, masks, strict=True):
        np.testing.assert_array_equal(one, mask, strict=True)


indices = [0, 4, -1, -5, np.int64(2), slice(None), slice(1, 4), slice(None, None, -2), slice(3, 3), [2, 0, 2], [], [-1]]


@pytest.mark.parametrize("index", [*indices, np.array([4, 1]), np.array([True, False, True, True, False])], ids=repr)
def test_an_index_of_rle_masks_selects_like_an_index_of_the_array(index: Any) -> None:
    chosen = RleMasks(encode_masks(five), (6, 7))[index]
    expected = five[np.asarray(index, dtype=np.int64) if index == [] else index] if isinstance(index, list) else five[index]
    assert isinstance(chosen, RleMasks if expected.ndim == 3 else np.ndarray)
    np.testing.assert_array_equal(np.asarray(chosen), expected, strict=True)


@pytest.mark.parametrize("index", [5, -6, [0, 5]])
def test_an_index_outside_is_an_index_error_as_for_an_array(index: Any) -> None:
    with pytest.raises(IndexError):
        RleMasks(encode_masks(five), (6, 7))[index]


def test_an_encoding_of_another_size_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"an encoded mask has size \[6, 7\], the image \[7, 6\]"):
        RleMasks(encode_masks(five), (7, 6))


def annotation_mask(segmentation: Any, height: int, width: int) -> BoolArray:
    """A segmentation as pycocotools' COCO class decodes it."""
    coco = COCO()
    coco.imgs[1] = {"height": height, "width": width}
    mask: BoolArray = coco.annToMask({"image_id": 1, "segmentation": segmentation}).astype(bool)
    return mask


corners = st.lists(st.floats(-3, 12, width=32), min_size=6, max_size=12).map(lambda values: values[: len(values) // 2 * 2])


@settings(deadline=None)
@given(st.lists(corners, min_size=1, max_size=3))
def test_polygons_cover_what_pycocotools_fills(polygons: list[list[float]]) -> None:
    rle = encode_segmentation(polygons, (8, 10))
    assert isinstance(rle["counts"], str)
    assert rle["size"] == [8, 10]
    np.testing.assert_array_equal(decode_mask(rle), annotation_mask(polygons, 8, 10))


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_rle_as_numbers_bytes_and_text_are_the_same_mask(mask: BoolArray) -> None:
    down = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(down)) + 1
    counts = np.diff([0, *edges.tolist(), down.size]).tolist()
    counts = [0, *counts] if down[0] else counts
    compressed = reference.encode(np.asfortranarray(mask, dtype=np.uint8))
    for variant in (counts, compressed["counts"], compressed["counts"].decode("ascii")):
        rle = encode_segmentation({"size": list(mask.shape), "counts": variant}, mask.shape)
        np.testing.assert_array_equal(decode_mask(rle), mask, strict=True)
        assert rle == encode_masks(mask[None])[0]


def test_an_annotation_without_polygons_is_an_empty_mask() -> None:
    np.testing.assert_array_equal(decode_mask(encode_segmentation([], (3, 4))), np.zeros((3, 4), dtype=bool), strict=True)


def test_rle_of_another_size_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"size \[3, 4\], the image \[4, 3\]"):
        encode_segmentation({"size": [3, 4], "counts": [12]}, (4, 3))


@pytest.mark.parametrize(
    "nothing", [None, 5, "abc", {"counts": [12]}, [["a", "b", "c", "d", "e", "f"]], {"size": 3}], ids=repr
)
def test_a_value_that_is_not_a_segmentation_is_rejected_by_name(nothing: Any) -> None:
    with pytest.raises(ValueError, match=r"a segmentation is neither polygons nor run lengths"):
        encode_segmentation(nothing, (3, 4))


@pytest.mark.parametrize("polygons", [[], [[]], [[1, 1]], [[1, 1], []]])
def test_polygons_of_fewer_than_two_points_are_empty_masks(polygons: list[list[int]]) -> None:
    assert not decode_mask(encode_segmentation(polygons, (5, 7))).any()


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [5, 7], "counts": "abc"},
        {"size": [5, 7], "counts": None},
        {"size": [5, 7], "counts": [30]},
        {"size": [5, 7], "counts": [30, 6]},
        {"size": [7, 5], "counts": [35]},
        {"counts": [35]},
        [["a", 1, 2, 3, 4, 5]],
        7,
    ],
)
def test_damaged_segmentations_are_rejected(segmentation: object) -> None:
    with pytest.raises(ValueError, match="."):
        encode_segmentation(segmentation, (5, 7))
