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
from eigenseg.data.rle import BoolArray, check_rle, encode_segmentation, mask_areas, mask_ious

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


def slow_runs(text: str) -> list[int]:
    """The runs of compressed counts, character by character as cocoapi reads them; [-1] if they end in the middle."""
    runs: list[int] = []
    number, place = 0, 0
    for character in text:
        bits = ord(character) - 48
        number |= (bits & 31) << (5 * place)
        place += 1
        if not bits & 32:
            number -= (1 << (5 * place)) if bits & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number, place = 0, 0
    return [-1] if place else runs


# The characters of small numbers are drawn more often, so that some of the texts are masks.
texts = st.text(st.sampled_from("01234567890123456789:;<=>?@ABCDO`abNMLKo"), max_size=6)


@settings(deadline=None, max_examples=500)
@given(texts | stacks.filter(len).map(lambda masks: encode_masks(masks)[0]["counts"]))
def test_compressed_counts_are_accepted_where_their_runs_fill_the_image(text: str) -> None:
    runs = slow_runs(text)
    for height, width in {(3, 4), (1, max(1, sum(runs)))}:
        rle = {"size": [height, width], "counts": text}
        if min(runs, default=0) >= 0 and sum(runs) == height * width:
            assert check_rle(rle, (height, width)) == rle
            expected = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool).reshape(width, height).T
            np.testing.assert_array_equal(decode_mask(check_rle(rle, (height, width))), expected, strict=True)
        else:
            with pytest.raises(ValueError, match=r"its runs cover \d+ pixels|its counts are malformed"):
                check_rle(rle, (height, width))


whole = encode_masks(five[:1])[0]["counts"]


@pytest.mark.parametrize("counts", [whole[:-2], whole + "1", "", [], [41], [20, 23], b"", whole[:-2].encode()], ids=repr)
def test_runs_that_do_not_fill_the_image_are_rejected_in_every_form_on_every_way_in(counts: Any) -> None:
    rle: Any = {"size": [6, 7], "counts": counts}
    with pytest.raises(ValueError, match=r"its runs cover \d+ pixels, the image has 42"):
        encode_segmentation(rle, (6, 7))
    with pytest.raises(ValueError, match=r"an encoded mask is damaged: its runs cover \d+ pixels, the image has 42"):
        RleMasks([rle], (6, 7))


@pytest.mark.parametrize(
    "counts", ["~~~", "\x00", "o", whole + "o", "ooooooooo0", [-1, 43], [21.0, 21.0], [True, 41], ["42"], 5], ids=repr
)
def test_counts_that_are_no_runs_are_rejected(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"a segmentation is neither polygons nor run lengths"):
        encode_segmentation({"size": [6, 7], "counts": counts}, (6, 7))


def test_masks_of_two_sizes_have_no_iou() -> None:
    with pytest.raises(ValueError, match=r"masks have different sizes, \[3, 4\] and \[4, 3\]"):
        mask_ious(encode_masks(np.ones((1, 3, 4), bool)), encode_masks(np.ones((1, 4, 3), bool)))


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([0, 0, 1, 1, 2], "has 5 numbers; it needs an x and a y"),
        ([0, 0, 1e9, 0, 1, 1], "has a coordinate beyond 1000000 pixels"),
        ([0, 0, float("nan"), 0, 1, 1], "has a coordinate beyond 1000000 pixels"),
        ([0, 0, float("-inf"), 0, 1, 1], "has a coordinate beyond 1000000 pixels"),
    ],
)
def test_polygons_that_cannot_be_filled_are_rejected(polygon: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_segmentation([polygon], (5, 7))


@pytest.mark.parametrize("size", [(0, 4), (-3, -4), (10**6, 10**6)])
def test_sizes_that_no_image_has_are_rejected(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="an image has at least 1 and fewer than 2"):
        encode_segmentation([[0, 0, 1, 0, 1, 1]], size)
