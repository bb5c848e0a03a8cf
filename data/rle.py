"""Masks as COCO run-length encodings: the compact form for files and for results too large to keep as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


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
        ValueError: if it is none of these, or an RLE of another size.
    """
    height, width = image_size
    try:
        if isinstance(segmentation, list):
            # Two points, as in some annotations, are a line without area; fewer are dropped.
            polygons = [polygon for polygon in segmentation if len(polygon) >= 4]
            rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else None
        elif list(segmentation["size"]) != [height, width]:
            raise ValueError(f"it has size {list(segmentation['size'])}, the image {[height, width]}")
        elif isinstance(segmentation["counts"], list):
            if sum(segmentation["counts"]) != height * width:
                raise ValueError(f"its runs cover {sum(segmentation['counts'])} pixels, the image has {height * width}")
            rle = coco_mask.frPyObjects(segmentation, height, width)
        else:
            rle = segmentation
            coco_mask.area(rle)  # decodes the runs and raises if they are damaged
    except ValueError:
        raise
    except Exception as error:  # the compiled reader raises arbitrary exceptions
        raise ValueError(f"a segmentation is neither polygons nor run lengths ({type(error).__name__}: {error})") from None
    if rle is None:  # an annotation without any outline covers nothing
        return encode_masks(np.zeros((1, height, width), dtype=bool))[0]
    counts = rle["counts"]
    return Rle(size=[height, width], counts=counts.decode("ascii") if isinstance(counts, bytes) else counts)


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
    """
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
    """

    dtype = np.dtype(bool)
    ndim = 3

    def __init__(self, rles: Sequence[Rle], image_size: tuple[int, int]) -> None:
        self.rles = tuple(rles)
        self.shape = (len(self.rles), *image_size)
        for rle in self.rles:
            if tuple(rle["size"]) != tuple(image_size):
                raise ValueError(f"an encoded mask has size {rle['size']}, the image {list(image_size)}")

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return decode_mask(self.rles[index])
        chosen = np.arange(len(self))[index]
        return RleMasks([self.rles[i] for i in chosen], (self.shape[1], self.shape[2]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        stack = np.zeros(self.shape, dtype=bool)
        for i, rle in enumerate(self.rles):
            stack[i] = decode_mask(rle)
        return stack if dtype is None else stack.astype(dtype)
