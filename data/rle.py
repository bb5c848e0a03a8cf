"""Masks as COCO run-length encodings: the compact form for files and for results too large to keep as arrays."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import msgspec
import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]

# Runs are 32 bits wide, and a decoded mask is a byte a pixel.
MAX_PIXELS = 2**31 - 1
# The compiled rasterizer walks along each edge pixel by pixel; larger images do not exist.
MAX_COORDINATE = 10**6
_NEITHER = "a segmentation is neither polygons nor run lengths"


class Rle(TypedDict):
    """A COCO run-length encoding: column-major runs of one mask."""

    size: list[int]  # [H, W]
    counts: str  # compressed, ASCII


def encode_masks(masks: BoolArray) -> list[Rle]:
    """Encode masks one by one.

    Args:
        masks: (n, H, W) bool.

    Returns:
        n encodings whose ``counts`` are ASCII strings, ready for json.
    """
    height, width = masks.shape[1:]
    # COCO runs go down the columns: a Fortran-ordered (H, W) array is read without another copy.
    encoded = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    return [Rle(size=[height, width], counts=rle["counts"].decode("ascii")) for rle in encoded]


def encode_segmentation(segmentation: Any, image_size: tuple[int, int]) -> Rle:
    """Convert a COCO segmentation in any of its three forms to compressed RLE.

    Args:
        segmentation: a list of polygons (x0, y0, x1, y1, ...), uncompressed RLE, or compressed RLE.
        image_size: (H, W) pixels.

    Raises:
        ValueError: if it is none of these, an RLE of another size, or its runs do not fill the image.
    """
    height, width = image_size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"the image has size {[height, width]}; an image has at least 1 and fewer than 2^31 pixels")
    if isinstance(segmentation, Mapping):
        return check_rle(segmentation, image_size)
    try:
        polygons = msgspec.convert(segmentation, list[list[float]])
    except msgspec.ValidationError as error:
        raise ValueError(f"{_NEITHER} ({error})") from None
    # Two points, as in some annotations, are a line without area; fewer are dropped.
    polygons = [polygon for polygon in polygons if len(polygon) >= 4]
    for polygon in polygons:
        if len(polygon) % 2:
            raise ValueError(f"a polygon has {len(polygon)} numbers; it needs an x and a y for each point")
        if not all(-MAX_COORDINATE <= number <= MAX_COORDINATE for number in polygon):  # NaN, too
            raise ValueError(f"a polygon has a coordinate beyond {MAX_COORDINATE} pixels, which no image has")
    if not polygons:  # an annotation without any outline covers nothing
        return _as_text(coco_mask.frPyObjects({"size": [height, width], "counts": [height * width]}, height, width))
    return _as_text(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))


def check_rle(rle: Any, image_size: tuple[int, int]) -> Rle:
    """Check an encoding in either form: the compiled code reads on past the end of runs that cover too few pixels.

    Args:
        rle: ``size`` and ``counts``, which are a list of integers, bytes or text.
        image_size: (H, W) pixels.

    Returns:
        The compressed RLE.

    Raises:
        ValueError: if it is not an RLE of this size, or its runs do not cover exactly the pixels of the image.

    Example:
        >>> check_rle({"size": [2, 3], "counts": [1, 2]}, (2, 3))
        Traceback (most recent call last):
        ValueError: its runs cover 3 pixels, the image has 6
    """
    height, width = image_size
    try:
        size, counts = list(rle["size"]), rle["counts"]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{_NEITHER} ({type(error).__name__}: {error})") from None
    if size != [height, width]:
        raise ValueError(f"it has size {size}, the image {[height, width]}")
    runs = _runs(counts)
    covered = int(runs.sum())
    if covered != height * width:
        raise ValueError(f"its runs cover {covered} pixels, the image has {height * width}")
    if isinstance(counts, list):
        return _as_text(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))
    return _as_text({"size": [height, width], "counts": counts})


def _runs(counts: Any) -> NDArray[np.int64]:
    """The run lengths: (n,) int64, background first.

    In text every character c holds six bits, c - 48: five of the number, lowest first, and 32 if more follow; the last
    one's 16 is the sign. From the fourth run on, a number is the difference from the run two before (cocoapi,
    common/maskApi.c, rleToString).

    Raises:
        ValueError: if they are no such text or list, or one is negative.
    """
    if isinstance(counts, list):
        if not all(type(run) is int and 0 <= run <= MAX_PIXELS for run in counts):
            raise ValueError(f"{_NEITHER} (a list of counts holds integers of at least 0)")
        return np.array(counts, dtype=np.int64)
    if isinstance(counts, str) and counts.isascii():
        counts = counts.encode("ascii")
    if not isinstance(counts, bytes):
        raise ValueError(f"{_NEITHER} (its counts are malformed)")
    bits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if not len(bits):
        return bits
    ends = np.flatnonzero(bits & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    # Seven characters hold 35 bits, and no run is longer than 2^31.
    if bits.min() < 0 or bits.max() > 63 or bits[-1] & 32 or lengths.max() > 7:
        raise ValueError(f"{_NEITHER} (its counts are malformed)")
    starts = ends - lengths + 1
    places = np.arange(len(bits)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((bits & 31) << (5 * places), starts)
    runs -= np.where(bits[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0 or runs.max() > MAX_PIXELS:
        raise ValueError(f"{_NEITHER} (its counts are malformed: a run is negative or longer than any image)")
    return runs


def _as_text(rle: Mapping[str, Any]) -> Rle:
    counts = rle["counts"]
    return Rle(size=list(rle["size"]), counts=counts.decode("ascii") if isinstance(counts, bytes) else counts)


def decode_mask(rle: Rle) -> BoolArray:
    """Decode one mask: (H, W) bool."""
    decoded: BoolArray = coco_mask.decode(rle).astype(bool)
    return decoded


def mask_areas(rles: Sequence[Rle]) -> list[int]:
    """Areas in pixels."""
    return [int(coco_mask.area(rle)) for rle in rles]


def mask_boxes(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Tight boxes around masks: (n, 4) float64 xyxy half-open pixels; all 0 for an empty mask."""
    boxes = np.array([coco_mask.toBbox(rle) for rle in rles], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def mask_ious(rles: Sequence[Rle], others: Sequence[Rle]) -> NDArray[np.float64]:
    """IoU of all pairs of masks of one size: (n, m) float64; 0 where both masks are empty.

    The runs are intersected without decoding, and the counts are exact.

    Raises:
        ValueError: if they have different sizes, whose IoU the compiled code would give as 0.
    """
    sizes = sorted({tuple(rle["size"]) for rle in (*rles, *others)})
    if len(sizes) > 1:
        raise ValueError(f"masks have different sizes, {list(sizes[0])} and {list(sizes[1])}")
    ious = coco_mask.iou(list(rles), list(others), [0] * len(others))
    return np.asarray(ious, dtype=np.float64).reshape(len(rles), len(others))


def equal_masks(one: Rle, other: Rle) -> bool:
    """Whether two encodings are the same mask; one mask may be encoded in several ways."""
    if list(one["size"]) != list(other["size"]):
        return False
    return one["counts"] == other["counts"] or np.array_equal(decode_mask(one), decode_mask(other))


class RleMasks(Sequence[BoolArray]):
    """Masks stored as RLE that look like an (n, H, W) bool array; each is decoded on access.

    ``masks[i]`` is an (H, W) array, ``masks[[0, 2]]`` or a slice is RleMasks again, ``np.asarray(masks)`` decodes all.

    Args:
        rles: compressed encodings.
        image_size: (H, W) pixels.
        checked: whether they come from ``encode_masks``, ``encode_segmentation`` or ``check_rle``, which saves the time of
            decoding all runs once more.

    Raises:
        ValueError: if one has another size, or its runs do not fill the image.
    """

    dtype = np.dtype(bool)
    ndim = 3

    def __init__(self, rles: Sequence[Rle], image_size: tuple[int, int], *, checked: bool = False) -> None:
        self.rles = tuple(rles)
        self.shape = (len(self.rles), *image_size)
        for rle in self.rles:
            if tuple(rle["size"]) != tuple(image_size):
                raise ValueError(f"an encoded mask has size {rle['size']}, the image {list(image_size)}")
            if checked:
                continue
            try:
                check_rle(rle, image_size)
            except ValueError as error:
                raise ValueError(f"an encoded mask is damaged: {error}") from None

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return decode_mask(self.rles[index])
        chosen = np.arange(len(self))[index]
        selected = copy.copy(self)  # what was checked need not be checked again
        selected.rles = tuple(self.rles[i] for i in chosen)
        selected.shape = (len(chosen), *self.shape[1:])
        return selected

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        stack = np.zeros(self.shape, dtype=bool)
        for i, rle in enumerate(self.rles):
            stack[i] = decode_mask(rle)
        return stack if dtype is None else stack.astype(dtype)
