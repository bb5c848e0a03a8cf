"""Small random predictions and annotations, and slow versions of the DAVIS scores, for tests of the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eigenseg.data import RleMasks, encode_masks
from eigenseg.data.datasets.base import ObjectAnnotation, VideoAnnotation
from eigenseg.data.detections import Detections

BoolArray = NDArray[np.bool_]
Generator = np.random.Generator


def rle_masks(masks: BoolArray) -> RleMasks:
    """Masks (n, H, W) bool in the encoding of predictions and annotations."""
    return RleMasks(encode_masks(masks), (masks.shape[1], masks.shape[2]))


def rectangles(rng: Generator, count: int, size: tuple[int, int]) -> tuple[NDArray[np.float64], BoolArray]:
    """Boxes (n, 4) with integer corners, at least one pixel wide and high, and masks (n, H, W) that fill them."""
    height, width = size
    rows = np.sort(np.array([rng.choice(height + 1, 2, replace=False) for _ in range(count)]).reshape(-1, 2), axis=1)
    columns = np.sort(np.array([rng.choice(width + 1, 2, replace=False) for _ in range(count)]).reshape(-1, 2), axis=1)
    y, x = np.indices(size)
    masks = np.array(
        [
            (y >= top) & (y < low) & (x >= left) & (x < right)
            for (top, low), (left, right) in zip(rows, columns, strict=True)
        ],
        dtype=bool,
    ).reshape(count, *size)
    return np.stack([columns[:, 0], rows[:, 0], columns[:, 1], rows[:, 1]], axis=1).astype(np.float64), masks


def frayed(rng: Generator, masks: BoolArray, fraction: float = 0.2) -> BoolArray:
    """Masks with a fraction of their pixels flipped."""
    return masks ^ (rng.random(masks.shape) < fraction)


def detections(rng: Generator, size: tuple[int, int], count: int, classes: int = 3) -> Detections:
    """Boxes and masks of a few classes; scores are drawn from five values, so that ties are frequent."""
    boxes, masks = rectangles(rng, count, size)
    scores = rng.integers(1, 6, count) / 5
    return Detections(boxes, scores, rng.integers(classes, size=count), rle_masks(frayed(rng, masks)))


def objects(rng: Generator, size: tuple[int, int], count: int, classes: int = 3, crowd: float = 0.2) -> ObjectAnnotation:
    """Objects of a few classes with masks, some of them crowd, difficult or truncated."""
    boxes, masks = rectangles(rng, count, size)
    return ObjectAnnotation(
        boxes,
        rng.integers(classes, size=count),
        size,
        rle_masks(masks),
        areas=masks.sum(axis=(1, 2)).astype(np.float64),
        crowd=rng.random(count) < crowd,
        difficult=rng.random(count) < 0.3,
        truncated=rng.random(count) < 0.3,
    )


def near(rng: Generator, annotation: ObjectAnnotation, extra: int = 1) -> Detections:
    """Most of the objects as detections, shifted by up to a pixel, and a few wrong ones; scores take five values."""
    assert annotation.image_size is not None
    detected = rng.random(len(annotation)) < 0.8
    shifted = annotation.boxes[detected] + rng.integers(-1, 2, (int(detected.sum()), 4))
    shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
    wrong = detections(rng, annotation.image_size, extra)
    masks = np.concatenate([frayed(rng, np.asarray(annotation.masks)[detected], 0.1), np.asarray(wrong.masks)])
    boxes, labels = np.concatenate([shifted, wrong.boxes]), np.concatenate([annotation.labels[detected], wrong.labels])
    return Detections(boxes, rng.integers(1, 6, len(boxes)) / 5, labels, rle_masks(masks))


def clip(rng: Generator, frames: int, size: tuple[int, int], count: int, void: bool = False) -> NDArray[np.uint8]:
    """Label maps (T, H, W) of rectangles that move by up to a pixel per frame and are absent in some frames."""
    maps = np.zeros((frames, *size), dtype=np.uint8)
    for number in range(1, count + 1):
        mask = rectangles(rng, 1, size)[1][0]
        for frame in range(frames):
            mask = np.roll(mask, rng.integers(-1, 2, 2), axis=(0, 1))
            if rng.random() < 0.85:
                maps[frame][mask] = number
    if void:
        maps[rng.random(maps.shape) < 0.05] = 255
    return maps


def as_video(labels: NDArray[Any]) -> VideoAnnotation:
    """Label maps (T, H, W) with frame names."""
    return VideoAnnotation(tuple(f"{i:05d}.jpg" for i in range(len(labels))), labels.astype(np.uint8))


def slow_boundary(mask: BoolArray) -> BoolArray:
    """The published boundary map, pixel by pixel: True if a right, lower or lower-right neighbor that exists differs."""
    height, width = mask.shape
    edges = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            # The last row is compared with the right neighbor only, the last column with the lower one.
            neighbors = [(y, x + 1)] if y == height - 1 else [(y + 1, x)] if x == width - 1 else None
            neighbors = [(y, x + 1), (y + 1, x), (y + 1, x + 1)] if neighbors is None else neighbors
            edges[y, x] = any(v < width and mask[y, x] != mask[u, v] for u, v in neighbors)
    return edges


def slow_jaccard(mine: BoolArray, other: BoolArray) -> float:
    union = int((mine | other).sum())
    return int((mine & other).sum()) / union if union else 1.0


def slow_contour(mine: BoolArray, other: BoolArray, radius: int) -> float:
    """F of two masks (H, W): boundaries of whole frames, dilated by a disc with SciPy."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    element = x**2 + y**2 <= radius**2
    edges, others = slow_boundary(mine), slow_boundary(other)
    if not edges.any() or not others.any():
        return float(edges.any() == others.any())
    precision = (edges & ndimage.binary_dilation(others, element)).sum() / edges.sum()
    recall = (others & ndimage.binary_dilation(edges, element)).sum() / others.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
