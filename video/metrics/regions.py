"""Region similarity J and contour accuracy F of all pairs of masks in a frame (Perazzi et al., CVPR 2016, section 4).

J is the intersection over union. F compares boundaries: P is the fraction of predicted boundary pixels within a tolerance
of the annotated boundary, R the converse, F = 2 P R / (P + R).

Every mask is cropped to its bounding box, and its boundary is extracted and dilated once; a pair then costs three counts
over the overlap of two boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolArray = NDArray[np.bool_]
# The published tolerance, as a fraction of the image diagonal.
BOUND_TH = 0.008


@dataclass(frozen=True)
class Patch:
    """A mask cropped to a rectangle of the frame; pixels outside are False.

    Args:
        top, left: first row and column, in pixels of the frame.
        mask: (h, w) bool.
        count: number of True pixels.
    """

    top: int
    left: int
    mask: BoolArray
    count: int

    def overlap(self, other: Patch) -> int:
        """Number of pixels that are True in both."""
        if not (self.count and other.count):
            return 0
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.mask.shape[0], other.top + other.mask.shape[0])
        right = min(self.left + self.mask.shape[1], other.left + other.mask.shape[1])
        if top >= bottom or left >= right:
            return 0
        mine, theirs = (
            patch.mask[top - patch.top : bottom - patch.top, left - patch.left : right - patch.left]
            for patch in (self, other)
        )
        return int(np.count_nonzero(mine & theirs))


EMPTY_PATCH = Patch(0, 0, np.zeros((0, 0), dtype=bool), 0)


@dataclass(frozen=True)
class Region:
    """One mask of a frame, its boundary, and that boundary dilated by the tolerance."""

    area: Patch
    boundary: Patch
    near_boundary: Patch


EMPTY = Region(EMPTY_PATCH, EMPTY_PATCH, EMPTY_PATCH)


def tolerance(frame_size: tuple[int, int], bound_th: float = BOUND_TH) -> int:
    """Largest distance between matching boundary pixels, in pixels.

    Args:
        frame_size: (H, W).
        bound_th: below 1 a fraction of the diagonal, rounded up; otherwise pixels.
    """
    return math.ceil(bound_th if bound_th >= 1 else bound_th * math.hypot(*frame_size))


def regions_of_labels(labels: NDArray[np.integer], count: int, radius: int) -> list[Region]:
    """Regions 1 ... ``count`` of a label map (H, W); the region of an absent label is empty."""
    # SciPy treats max_label=0 as no limit.
    slices: list[Any] = ndimage.find_objects(labels, max_label=count) if count else []
    return [
        EMPTY if crop is None else _region(labels[crop] == i, crop[0].start, crop[1].start, labels.shape, radius)
        for i, crop in enumerate(slices, start=1)
    ]


def regions_of_masks(masks: BoolArray, radius: int) -> list[Region]:
    """Regions of masks (n, H, W) bool that may overlap."""
    regions = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            regions.append(EMPTY)
            continue
        crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        regions.append(_region(crop, int(rows[0]), int(columns[0]), mask.shape, radius))
    return regions


def pairwise_scores(
    proposals: Sequence[Region], objects: Sequence[Region]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J and F of every proposal with every object: two arrays (P, O) float64.

    Two empty masks score 1 in both; an empty and a non-empty mask score 0.
    """
    jaccard = np.ones((len(proposals), len(objects)))
    contour = np.ones((len(proposals), len(objects)))
    for i, mine in enumerate(proposals):
        for j, other in enumerate(objects):
            intersection = mine.area.overlap(other.area)
            union = mine.area.count + other.area.count - intersection
            if union:
                jaccard[i, j] = intersection / union
            contour[i, j] = _contour_accuracy(mine, other)
    return jaccard, contour


def boundary_of(mask: BoolArray) -> BoolArray:
    """Pixels that differ from their right, lower or lower-right neighbor.

    The last row is compared with the right neighbor only, the last column with the lower one, the last corner with none.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool.
    """
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edges[:-1, :] |= mask[:-1, :] ^ mask[1:, :]
    edges[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edges


def _contour_accuracy(mine: Region, other: Region) -> float:
    counts = mine.boundary.count, other.boundary.count
    if not all(counts):
        return float(not any(counts))
    precision = mine.boundary.overlap(other.near_boundary) / counts[0]
    recall = other.boundary.overlap(mine.near_boundary) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _region(crop: BoolArray, top: int, left: int, frame_size: tuple[int, ...], radius: int) -> Region:
    """Build a region from a mask cropped to its bounding box."""
    area = Patch(top, left, crop, int(np.count_nonzero(crop)))
    # A boundary pixel may lie one row above or one column left of the mask. The boundary rules differ in the last row and
    # column of the frame; a margin of zeros keeps those rules away from the edges of a crop that lies inside the frame.
    height, width = frame_size[0], frame_size[1]
    above, before = min(1, top), min(1, left)
    below, after = (
        int(start + side < limit) for start, side, limit in ((top, crop.shape[0], height), (left, crop.shape[1], width))
    )
    edges = boundary_of(np.pad(crop, ((above, below), (before, after))))
    boundary = Patch(top - above, left - before, edges, int(np.count_nonzero(edges)))
    return Region(area, boundary, _dilate(boundary, radius))


def _dilate(patch: Patch, radius: int) -> Patch:
    """Dilate by a disc; pixels outside the frame stay in the patch, where they overlap no other mask."""
    padded = np.pad(patch.mask, radius).view(np.uint8)
    grown = cv2.dilate(padded, disc(radius)).view(bool)
    return Patch(patch.top - radius, patch.left - radius, grown, int(np.count_nonzero(grown)))


def disc(radius: int) -> NDArray[np.uint8]:
    """Structuring element with all offsets within ``radius``: (2 radius + 1, 2 radius + 1) uint8."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(np.uint8)
