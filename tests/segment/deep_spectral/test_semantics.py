"""Semantic segmentation gives objects of one class the same label over a whole dataset; each step is tested by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from eigenseg.data import Geometry
from eigenseg.segment.deep_spectral.eigensegments import eigensegments
from eigenseg.segment.deep_spectral.regions import multi_region
from eigenseg.segment.deep_spectral.semantics import (
    Regions,
    cluster_descriptors,
    crop_boxes,
    labels_to_image,
    segment_regions,
    semantic_maps,
    semantic_segmentation,
    tidy_mask,
    unit_descriptors,
)
from eigenseg.segment.metrics import SemanticIoU

Image = NDArray[np.uint8]
PATCH, GRID = 4, (20, 24)
KINDS = np.array([(40, 80, 170), (220, 60, 40), (60, 200, 60), (230, 220, 40)], dtype=np.uint8)
CORNERS = [(2, 3), (2, 14), (11, 3), (11, 14)]  # of squares of 7 tokens


def drawn(seed: int) -> tuple[Image, NDArray[np.int64]]:
    """A blue image (82, 99, 3) with three squares of two or three kinds, and the kinds (20, 24) of its tokens."""
    generator = np.random.default_rng(seed)
    annotation = np.zeros(GRID, dtype=np.int64)
    for kind, corner in zip(generator.permutation([1, 2, 3]), generator.permutation(4)[: 2 + seed % 2], strict=False):
        y, x = CORNERS[corner]
        annotation[y : y + 7, x : x + 7] = kind
    image = np.zeros((82, 99, 3), dtype=np.uint8)
    image[:80, :96] = KINDS[annotation].repeat(PATCH, axis=0).repeat(PATCH, axis=1)
    noise = generator.integers(-9, 10, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8), annotation


GEOMETRY = Geometry((82, 99), (82, 99), (80, 96), PATCH)


def color_tokens(image: Image) -> torch.Tensor:
    cells = image[:80, :96].reshape(20, PATCH, 24, PATCH, 3).mean(axis=(1, 3)) - 110
    return torch.from_numpy(cells).float().reshape(1, -1, 3)


def middle_color(crop: Image) -> torch.Tensor:
    height, width = crop.shape[:2]
    middle = crop[height // 3 : -(height // 3), width // 3 : -(width // 3)]
    return torch.from_numpy(middle.reshape(-1, 3).mean(axis=0) - 110)


def segmented(images: list[Image], clusters: list[int]) -> list[NDArray[np.int64]]:
    maps = []
    for image, number in zip(images, clusters, strict=True):
        result = eigensegments(color_tokens(image), GRID, 4)
        maps.append(multi_region(result.eigenvectors, result.eigenvalues, GRID, number)[0])
    return maps


def test_objects_of_one_class_get_the_same_label_in_every_image() -> None:
    images, annotations = zip(*(drawn(seed) for seed in range(8)), strict=True)
    segments = segmented(list(images), [len(np.unique(annotation)) for annotation in annotations])
    maps = semantic_segmentation(iter(images), segments, [GEOMETRY] * 8, middle_color, n_clusters=3)
    metric = SemanticIoU(classes=4)
    for i, (result, annotation) in enumerate(zip(maps, annotations, strict=True)):
        metric.update(
            str(i), labels_to_image(result, GEOMETRY)[:80, :96], annotation.repeat(PATCH, axis=0).repeat(PATCH, axis=1)
        )
        np.testing.assert_array_equal(result == 0, annotation == 0)
    assert metric.compute()["miou"] == 1
    again = semantic_segmentation(images, segments, [GEOMETRY] * 8, middle_color, n_clusters=3)
    np.testing.assert_array_equal(np.stack(maps), np.stack(again))


def test_published_labels_merge_the_first_cluster_with_the_background() -> None:
    images, annotations = zip(*(drawn(seed) for seed in range(6)), strict=True)
    segments = segmented(list(images), [len(np.unique(annotation)) for annotation in annotations])
    ours = semantic_segmentation(images, segments, [GEOMETRY] * 6, middle_color, n_clusters=3)
    theirs = semantic_segmentation(images, segments, [GEOMETRY] * 6, middle_color, compat="reference", n_clusters=3)
    np.testing.assert_array_equal(np.stack(theirs), np.maximum(np.stack(ours) - 1, 0))
    assert {int(name) for one in ours for name in np.unique(one)} == {0, 1, 2, 3}


@pytest.mark.parametrize("case", [0, 1])
def test_published_box_after_erosion_and_dilation_is_reproduced(test_data: Path, case: int) -> None:
    golden = np.load(test_data / "golden_reference" / "deep_spectral.npz")
    regions = segment_regions(golden[f"single_region_{case}"], erode=2, dilate=3)
    assert regions.labels.tolist() == [255]
    np.testing.assert_array_equal(regions.boxes * 16, golden[f"single_region_box_e2_d3_{case}"])


def tidied_by_loops(mask: NDArray[np.bool_], erode: int, dilate: int) -> NDArray[np.bool_]:
    cells = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    inside = {(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1])}

    def around(y: int, x: int) -> set[tuple[int, int]]:
        return {(y, x), (y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & inside

    for _ in range(erode):
        cells = {cell for cell in cells if around(*cell) <= cells} or cells
    for _ in range(dilate):
        cells = set().union(*(around(*cell) for cell in cells))
    return np.array([[(y, x) in cells for x in range(mask.shape[1])] for y in range(mask.shape[0])])


@given(
    arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.integers(0, 3),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_erosion_and_dilation_equal_loops_and_never_leave_nothing(mask: NDArray[np.bool_], erode: int, dilate: int) -> None:
    tidy = tidy_mask(mask, erode, dilate)
    np.testing.assert_array_equal(tidy, tidied_by_loops(mask, erode, dilate))
    assert tidy.any() == mask.any()


def test_boxes_of_segments_are_tight_and_without_the_background() -> None:
    segments = np.zeros((12, 12), dtype=np.int64)
    segments[4:9, 3:10] = 7
    segments[0, 0] = 2
    regions = segment_regions(segments, erode=1, dilate=1)
    assert regions.labels.tolist() == [2, 7]
    assert regions.boxes.tolist() == [[0, 0, 2, 2], [3, 4, 10, 9]]
    assert segment_regions(segments).boxes.tolist() == [[0, 0, 6, 6], [0, 1, 12, 12]]  # 2 and 5 by default
    assert len(segment_regions(np.zeros((3, 3), dtype=np.int64)).labels) == 0


def test_crops_are_the_pixels_under_a_box_at_full_resolution() -> None:
    image = np.arange(30 * 47 * 3).reshape(30, 47, 3).astype(np.uint8)
    geometry = Geometry((30, 47), (15, 24), (12, 24), 4)  # halved, then cropped
    whole, part = crop_boxes(image, np.array([[0, 0, 6, 3], [1, 2, 2, 3]]), geometry)
    np.testing.assert_array_equal(whole, image[:24])
    np.testing.assert_array_equal(part, image[16:24, 7:16])  # 7.83 to 15.67: every pixel that the box touches


def test_a_box_outside_the_image_still_gives_a_pixel() -> None:
    geometry = Geometry((8, 8), (8, 8), (8, 16), 4)
    (crop,) = crop_boxes(np.zeros((8, 8, 3), dtype=np.uint8), np.array([[3, 0, 4, 1]]), geometry)
    assert crop.shape == (4, 1, 3)


def test_descriptors_have_unit_length_and_zeros_stay_zeros() -> None:
    crops = [np.full((2, 2, 3), value, dtype=np.uint8) for value in (0, 3, 200)]
    result = unit_descriptors(crops, lambda crop: torch.tensor([3.0, 4.0]) * float(crop[0, 0, 0]))
    np.testing.assert_allclose(result, [[0, 0], [0.6, 0.8], [0.6, 0.8]], atol=1e-7)
    assert unit_descriptors(crops, lambda crop: [1.0]).shape == (3, 1)
    assert unit_descriptors([], lambda crop: [1.0]).shape == (0, 0)


def test_length_of_a_descriptor_does_not_matter() -> None:
    images, annotations = zip(*(drawn(seed) for seed in range(4)), strict=True)
    segments = segmented(list(images), [len(np.unique(annotation)) for annotation in annotations])
    lengths = iter(np.random.default_rng(0).uniform(1e-3, 1e3, 100))
    plain = semantic_segmentation(images, segments, [GEOMETRY] * 4, middle_color, n_clusters=3)
    scaled = semantic_segmentation(
        images, segments, [GEOMETRY] * 4, lambda crop: middle_color(crop) * next(lengths), n_clusters=3
    )
    np.testing.assert_array_equal(np.stack(plain), np.stack(scaled))


def blobs(noise_width: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    kinds = np.arange(120) % 4
    points = 10 * np.eye(4)[kinds] + 0.1 * generator.standard_normal((120, 4))
    return np.concatenate([points, 0.01 * generator.standard_normal((120, noise_width))], axis=1), kinds


@pytest.mark.parametrize("pca", [None, 3, 32])
def test_clusters_are_the_kinds_with_and_without_projection(pca: int | None) -> None:
    points, kinds = blobs(noise_width=60)
    result = cluster_descriptors(points, n_clusters=4, pca=pca)
    pairs = set(zip(result.tolist(), kinds.tolist(), strict=True))
    assert len(pairs) == 4
    assert {cluster for cluster, _ in pairs} == {0, 1, 2, 3}
    np.testing.assert_array_equal(result, cluster_descriptors(points, n_clusters=4, pca=pca))


def test_projection_keeps_the_directions_that_vary_most() -> None:
    generator = np.random.default_rng(1)
    kinds = np.arange(60) % 2
    points = np.stack([20 * kinds + generator.standard_normal(60), 3 * generator.standard_normal(60)], axis=1)
    result = cluster_descriptors(points, n_clusters=2, pca=1)
    assert len(set(zip(result.tolist(), kinds.tolist(), strict=True))) == 2


def test_twenty_clusters_by_default_and_the_seed_fixes_them() -> None:
    points = np.random.default_rng(0).standard_normal((300, 5))
    result = cluster_descriptors(points)
    assert set(result.tolist()) == set(range(20))
    np.testing.assert_array_equal(result, cluster_descriptors(points, seed=0))
    assert not np.array_equal(result, cluster_descriptors(points, seed=1))


def test_regions_get_the_clusters_in_their_order() -> None:
    segments = [np.array([[0, 1], [3, 0]]), np.array([[0, 0], [0, 0]]), np.array([[2, 2], [0, 1]])]
    regions = [segment_regions(one) for one in segments]
    assert [result.labels.tolist() for result in regions] == [[1, 3], [], [1, 2]]
    maps = semantic_maps(segments, regions, np.array([4, 0, 1, 0]))
    assert [one.tolist() for one in maps] == [[[0, 5], [1, 0]], [[0, 0], [0, 0]], [[1, 1], [0, 2]]]
    published = semantic_maps(segments, regions, np.array([4, 0, 1, 0]), compat="reference")
    assert [one.tolist() for one in published] == [[[0, 4], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 1]]]


def test_a_dataset_without_regions_has_no_clusters() -> None:
    segments = [np.zeros((20, 24), dtype=np.int64)] * 2
    maps = semantic_segmentation([drawn(0)[0]] * 2, segments, [GEOMETRY] * 2, middle_color)
    assert not np.stack(maps).any()


@given(arrays.arrays(np.int64, (3, 4), elements=st.integers(0, 9)))
@settings(deadline=None)
def test_labels_in_pixels_are_those_of_their_cells(labels: NDArray[np.int64]) -> None:
    pixels = labels_to_image(labels, Geometry((7, 11), (7, 11), (6, 8), 2))
    expected = np.zeros((7, 11), dtype=np.int64)
    for y in range(6):
        for x in range(8):
            expected[y, x] = labels[y // 2, x // 2]
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == np.int32


def test_wrong_input_is_rejected() -> None:
    image, annotation = drawn(1)
    with pytest.raises(ValueError, match="n_clusters must be from 1 to the number of segments in all images, 3, got 20"):
        semantic_segmentation([image], [annotation], [GEOMETRY], middle_color)
    with pytest.raises(ValueError, match="pca must be null or from 1 to 3, for 3 descriptors of 5, got 4"):
        cluster_descriptors(np.ones((3, 5)), 2, pca=4)
    with pytest.raises(ValueError, match="the number of segments in all images, 3, got 0"):
        cluster_descriptors(np.ones((3, 5)), 0)
    with pytest.raises(ValueError, match=r"segments of shape \(3, 3\) do not fit a geometry of grid \(20, 24\)"):
        semantic_segmentation([image], [np.zeros((3, 3), dtype=np.int64)], [GEOMETRY], middle_color)
    with pytest.raises(ValueError, match=r"segments must be \(gh, gw\) integers of at least 0, got \(3,\) int64"):
        segment_regions(np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="segments must be"):
        segment_regions(np.full((3, 3), -1))
    with pytest.raises(ValueError, match="erode and dilate must be at least 0 steps, got -1 and 5"):
        segment_regions(annotation, erode=-1)
    with pytest.raises(ValueError, match=r"the image has size \(9, 9\), its geometry \(82, 99\)"):
        crop_boxes(np.zeros((9, 9, 3), dtype=np.uint8), np.zeros((0, 4), dtype=np.int64), GEOMETRY)
    with pytest.raises(ValueError, match="1 regions need as many clusters, got 2"):
        semantic_maps([annotation], [Regions(np.array([1]), np.zeros((1, 4), dtype=np.int64))], np.array([0, 1]))
    with pytest.raises(ValueError, match="compat must be null or 'reference', got 'published'"):
        semantic_maps([], [], np.array([], dtype=np.int64), compat="published")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zip"):
        semantic_segmentation([image], [annotation, annotation], [GEOMETRY] * 2, middle_color, n_clusters=3)


def test_descriptors_that_are_no_vectors_are_rejected() -> None:
    crops = [np.zeros((2, 3, 3), dtype=np.uint8)] * 2
    with pytest.raises(ValueError, match=r"encode must return a vector \(D,\) for every crop, got shape \(1, 4\)"):
        unit_descriptors(crops, lambda crop: torch.zeros(1, 4))
    lengths = iter([3, 4])
    with pytest.raises(ValueError, match=r"encode must return a vector \(3,\) for every crop, got shape \(4,\)"):
        unit_descriptors(crops, lambda crop: np.zeros(next(lengths)))
    with pytest.raises(ValueError, match="encode returned values that are not finite for a crop of 3x2 pixels"):
        unit_descriptors(crops, lambda crop: np.array([np.nan]))
