"""Semantic segmentation of Deep Spectral Methods: the regions of a whole dataset are clustered by their features.

Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022. Data flow: segments -> box of each -> features of the crop -> unit
length -> optional PCA -> mini-batch k-means over all images -> label maps. The caller provides the encoder, so this module
needs no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from torch import Tensor

from eigenseg.data.checks import Compat, check_compat
from eigenseg.data.geometry import Geometry
from eigenseg.data.images import ImageArray
from eigenseg.data.rle import BoolArray

Encode = Callable[[ImageArray], Tensor | ArrayLike]
"""Crop (h, w, 3) uint8 RGB, at least one pixel, to its features (D,); the published ones are the CLS token of a ViT."""
Segments = NDArray[np.integer]
_STARTS = 3  # ``n_init`` of mini-batch k-means, the default of scikit-learn at the time of the paper
_SHORTEST = 1e-12  # lower bound of the divisor: zero features stay zero


class Regions(NamedTuple):
    """Segments of one image that are not background."""

    labels: NDArray[np.int64]  # (n,) their labels in the label map, ascending
    boxes: NDArray[np.int64]  # (n, 4) xyxy half-open, in cells of the map


def tidy_mask(mask: BoolArray, erode: int = 2, dilate: int = 5) -> BoolArray:
    """Erode, then dilate with 4 neighbors, step by step; an erosion step that would empty the mask is skipped.

    The border of the grid does not erode a mask.

    Args:
        mask: (gh, gw) bool.
        erode, dilate: steps. Published: 2 and 5.
    """
    for _ in range(erode):
        smaller = ndimage.binary_erosion(mask, border_value=1)
        mask = smaller if smaller.any() else mask
    return ndimage.binary_dilation(mask, iterations=dilate) if dilate else mask


def segment_regions(segments: Segments, erode: int = 2, dilate: int = 5) -> Regions:
    """Boxes of the segments of one image after ``tidy_mask``, without the background 0.

    Args:
        segments: (gh, gw) integers, at least 0.
        erode, dilate: as in ``tidy_mask``.

    Raises:
        ValueError: if the map has another shape or negative labels, or a number of steps is negative.
    """
    if segments.ndim != 2 or segments.dtype.kind not in "iu" or (segments.size and segments.min() < 0):
        raise ValueError(f"segments must be (gh, gw) integers of at least 0, got {segments.shape} {segments.dtype}")
    if min(erode, dilate) < 0:
        raise ValueError(f"erode and dilate must be at least 0 steps, got {erode} and {dilate}")
    labels = np.setdiff1d(segments, [0]).astype(np.int64)
    boxes = np.zeros((len(labels), 4), dtype=np.int64)
    for box, label in zip(boxes, labels, strict=True):
        rows, columns = np.nonzero(tidy_mask(segments == label, erode, dilate))
        box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return Regions(labels, boxes)


def crop_boxes(image: ImageArray, boxes: NDArray[np.integer], geometry: Geometry) -> list[ImageArray]:
    """Crops of an image, at full resolution, by boxes of cells; never empty.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (n, 4) xyxy half-open, in cells of the geometry's grid.
        geometry: of the image.

    Raises:
        ValueError: if the image does not have the geometry's size.
    """
    if image.shape[:2] != geometry.image_size:
        raise ValueError(f"the image has size {image.shape[:2]}, its geometry {geometry.image_size}")
    height, width = geometry.image_size
    crops = []
    for x0, y0, x1, y1 in geometry.boxes_to_image(torch.from_numpy(np.asarray(boxes, dtype=np.int64))).tolist():
        left, top = min(int(x0), width - 1), min(int(y0), height - 1)
        right, bottom = max(int(np.ceil(x1)), left + 1), max(int(np.ceil(y1)), top + 1)
        crops.append(image[top:bottom, left:right])
    return crops


def unit_descriptors(crops: Iterable[ImageArray], encode: Encode) -> NDArray[np.float32]:
    """Features of crops, each divided by its norm: (n, D) float32, (0, 0) without crops.

    Raises:
        ValueError: if the features of a crop are not a vector, are not finite, or have another width than the first.
    """
    rows: list[NDArray[np.float32]] = []
    for crop in crops:
        given = encode(crop)
        row = np.asarray(given.detach().cpu().float() if isinstance(given, Tensor) else given, dtype=np.float32)
        if row.ndim != 1 or not len(row) or (rows and row.shape != rows[0].shape):
            expected = rows[0].shape if rows else "(D,)"
            raise ValueError(f"encode must return a vector {expected} for every crop, got shape {row.shape}")
        if not np.isfinite(row).all():
            raise ValueError(
                f"encode returned values that are not finite for a crop of {crop.shape[1]}x{crop.shape[0]} pixels"
            )
        rows.append(row / max(float(np.linalg.norm(row)), _SHORTEST))
    return np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)


def cluster_descriptors(
    descriptors: NDArray[np.floating],
    n_clusters: int = 20,
    pca: int | None = None,
    batch_size: int = 4096,
    max_iter: int = 5000,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Cluster descriptors by mini-batch k-means, after a projection to ``pca`` components if that is not None.

    Args:
        descriptors: (M, D), of all segments of all images.
        n_clusters: at most M. Published: 20 by default in the code, 21 in its documentation.
        pca: at most M and D. Published, where used: 32.
        batch_size, max_iter, seed: of mini-batch k-means, published values.

    Returns:
        (M,) int64 from 0 to n_clusters - 1.

    Raises:
        ValueError: if a number is out of range.
    """
    count, width = descriptors.shape
    if not 1 <= n_clusters <= count:
        raise ValueError(f"n_clusters must be from 1 to the number of segments in all images, {count}, got {n_clusters}")
    if pca is not None and not 1 <= pca <= min(count, width):
        raise ValueError(
            f"pca must be null or from 1 to {min(count, width)}, for {count} descriptors of {width}, got {pca}"
        )
    points = np.asarray(descriptors, dtype=np.float64)
    if pca is not None:
        points = PCA(pca, svd_solver="full").fit_transform(points)
    means = MiniBatchKMeans(
        n_clusters, batch_size=batch_size, max_iter=max_iter, n_init=_STARTS, random_state=seed, compute_labels=True
    )
    labels: NDArray[np.int64] = means.fit_predict(points).astype(np.int64)
    return labels


def semantic_maps(
    segments: Sequence[Segments],
    regions: Sequence[Regions],
    clusters: NDArray[np.integer],
    compat: Compat = None,
) -> list[NDArray[np.int32]]:
    """Label maps in which every region has its cluster's label, the background 0.

    Args:
        segments: (gh, gw) of every image.
        regions: of every image, from ``segment_regions``.
        clusters: (M,) from 0, of the regions of all images in their order.
        compat: None: cluster c has label c + 1. ``"reference"``: label c, as published, which merges cluster 0 with the
            background; 21 clusters then give the 21 labels of the published evaluation.

    Returns:
        One (gh, gw) int32 per image.

    Raises:
        ValueError: if there are not as many clusters as regions.
    """
    check_compat(compat)
    count = sum(len(of_image.labels) for of_image in regions)
    if len(clusters) != count:
        raise ValueError(f"{count} regions need as many clusters, got {len(clusters)}")
    names = np.asarray(clusters, dtype=np.int32) + (0 if compat == "reference" else 1)
    maps, start = [], 0
    for one, of_image in zip(segments, regions, strict=True):
        table = np.zeros(int(one.max(initial=0)) + 1, dtype=np.int32)
        table[of_image.labels] = names[start : start + len(of_image.labels)]
        maps.append(table[one])
        start += len(of_image.labels)
    return maps


def semantic_segmentation(
    images: Iterable[ImageArray],
    segments: Sequence[Segments],
    geometries: Sequence[Geometry],
    encode: Encode,
    erode: int = 2,
    dilate: int = 5,
    compat: Compat = None,
    **clustering: Any,
) -> list[NDArray[np.int32]]:
    """Label maps of a dataset from its segments, all steps in one call; images are read one after the other.

    Args:
        images: (H, W, 3) uint8 RGB each, full resolution; may be a generator.
        segments: (gh, gw) each, 0 the background, from ``multi_region``.
        geometries: with the grids of the segments; after ``upsample`` u the patch size is divided by u.
        encode: crop to features.
        erode, dilate: as in ``tidy_mask``.
        compat: as in ``semantic_maps``.
        clustering: arguments of ``cluster_descriptors``.

    Returns:
        One (gh, gw) int32 per image; ``labels_to_image`` maps them to pixels. Without any region all are 0.

    Raises:
        ValueError: if lengths, grids or numbers do not fit.
    """
    for one, geometry in zip(segments, geometries, strict=True):
        if one.shape != geometry.grid:
            raise ValueError(f"segments of shape {one.shape} do not fit a geometry of grid {geometry.grid}")
    regions = [segment_regions(one, erode, dilate) for one in segments]
    crops = (
        crop
        for image, of_image, geometry in zip(images, regions, geometries, strict=True)
        for crop in crop_boxes(image, of_image.boxes, geometry)
    )
    descriptors = unit_descriptors(crops, encode)
    clusters = cluster_descriptors(descriptors, **clustering) if len(descriptors) else np.zeros(0, dtype=np.int64)
    return semantic_maps(segments, regions, clusters, compat)


def labels_to_image(labels: Segments, geometry: Geometry) -> NDArray[np.int32]:
    """A label map in pixels, by nearest neighbor; cropped pixels are background, 0.

    Args:
        labels: (gh, gw) integers.
        geometry: of that grid.

    Returns:
        (H, W) int32.
    """
    names, inverse = np.unique(labels, return_inverse=True)
    cells = torch.from_numpy(np.arange(len(names))[:, None, None] == inverse.reshape(labels.shape))
    pixels = geometry.masks_to_image(cells).numpy()
    return np.where(pixels.any(axis=0), names[pixels.argmax(axis=0)], 0).astype(np.int32)
