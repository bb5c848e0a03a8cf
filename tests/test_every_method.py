"""What every method promises, whatever it computes: a new one gets these tests by a line in ``METHODS``."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eigenseg.data import FeatureGrid, Geometry, Instances
from eigenseg.data.images import ImageArray
from eigenseg.discovery import LOST, DinoSeg, Method, TokenCut
from eigenseg.segment import FOUND, DeepSpectral, MaskCut, PartHierarchy

METHODS: dict[str, Callable[[], Method]] = {
    "tokencut": TokenCut,
    "tokencut_drop": lambda: TokenCut(padding="drop"),
    "lost": LOST,
    "lost_drop": lambda: LOST(padding="drop"),
    "dino_seg": lambda: DinoSeg(attention_head=1),
    "deep_spectral": DeepSpectral,
    "deep_spectral_colors": lambda: DeepSpectral(color_weight=1.0, upsample=2),
    "deep_spectral_segmentation": lambda: DeepSpectral("segmentation"),
    "found": FOUND,
    "found_multi": lambda: FOUND(outputs="multi", level="pixel"),
    "found_head": lambda: FOUND("head", "random"),
    "maskcut": MaskCut,
    "maskcut_reference": lambda: MaskCut(max_masks=3, compat="reference"),
    "maskcut_parts": lambda: PartHierarchy(MaskCut()),
}
PATCH, HEADS, WIDTH = 4, 2, 8
# Their graphs have edges between tokens that are alike, too.
LOOK_AT_COLORS = ("deep_spectral_colors",)
every_method = pytest.mark.parametrize("name", METHODS)


def geometry(grid: tuple[int, int], extra: tuple[int, int] = (0, 0), scale: int = 1) -> Geometry:
    """Of an image that was scaled down, then padded (negative ``extra``, pixels) or cropped (positive) to the grid."""
    full = (grid[0] * PATCH, grid[1] * PATCH)
    size = (full[0] + extra[0], full[1] + extra[1])
    return Geometry((size[0] * scale, size[1] * scale), size, full, PATCH)


def rectangle(grid: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    """The tokens of the object: (gh, gw); neither symmetric nor central."""
    rows, columns = np.indices(grid)
    return (
        (rows >= grid[0] // 4) & (rows < 3 * grid[0] // 4) & (columns >= grid[1] // 4) & (columns < grid[1] // 2 + seed % 3)
    )


def batch(
    grids: Sequence[int], grid: tuple[int, int], extra: tuple[int, int] = (0, 0)
) -> tuple[FeatureGrid, list[ImageArray]]:
    """Features and images of a rectangle on a background, one per seed, of different sizes; it draws the attention."""
    tokens, attention, images = [], [], []
    geometries = [geometry(grid, extra, scale=1 + seed % 2) for seed in grids]
    for seed, one in zip(grids, geometries, strict=True):
        rng = np.random.default_rng(seed)
        inside = rectangle(grid, seed)
        centers = np.eye(WIDTH)[np.where(inside, 0, 1)]
        tokens.append((centers + 0.2 * rng.standard_normal((*grid, WIDTH))).reshape(-1, WIDTH))
        weights = np.where(inside, 4.0, 1.0) + rng.random((HEADS, *grid))
        attention.append(0.9 * (weights / weights.sum(axis=(1, 2), keepdims=True)).reshape(HEADS, -1))
        images.append(rng.integers(0, 256, (*one.image_size, 3), dtype=np.uint8))
    features = FeatureGrid(
        torch.from_numpy(np.stack(tokens)).float(),
        grid,
        "key",
        tuple(geometries),
        attention=torch.from_numpy(np.stack(attention)).float(),
    )
    return features, images


def assert_same(one: Instances, other: Instances, tolerance: float = 0.0) -> None:
    """Masks, boxes, labels and reasons are equal, scores and soft maps up to the tolerance."""
    np.testing.assert_array_equal(np.asarray(one.masks), np.asarray(other.masks))
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=tolerance)
    assert (one.image_size, one.names, one.reason) == (other.image_size, other.names, other.reason)
    assert one.extras.keys() == other.extras.keys()
    assert one.metadata.keys() == other.metadata.keys()


def assert_well_formed(result: Instances, one: Geometry) -> None:
    """In pixels of the image; objects have pixels inside of their boxes, no object has a reason."""
    assert result.image_size == one.image_size
    assert (result.reason is None) == bool(len(result))
    for mask, box in zip(np.asarray(result.masks), result.boxes, strict=True):
        assert mask.any()
        ys, xs = np.nonzero(mask)
        x0, y0, x1, y1 = box
        assert x0 - 1 <= xs.min() < xs.max() + 1 <= x1 + 1  # a box follows patch borders, a mask whole pixels
        assert y0 - 1 <= ys.min() < ys.max() + 1 <= y1 + 1
    soft: NDArray[Any] | None = result.metadata.get("saliency")
    assert soft is None or (soft.shape == one.image_size and 0 <= soft.min() <= soft.max() <= 1)


@every_method
def test_a_batch_equals_its_images_one_by_one(name: str) -> None:
    features, images = batch(range(4), (12, 15))
    method = METHODS[name]()
    together = method(features, images)
    assert len(together) == 4
    for i, result in enumerate(together):
        (alone,) = method(features[i : i + 1], images[i : i + 1])
        assert_same(result, alone, tolerance=1e-6)


@every_method
def test_the_planted_object_is_the_first_instance(name: str) -> None:
    features, images = batch(range(3), (12, 16))
    for seed, (result, one) in enumerate(zip(METHODS[name]()(features, images), features.geometries, strict=True)):
        assert_well_formed(result, one)
        planted = one.masks_to_image(torch.from_numpy(rectangle((12, 16), seed))).numpy()
        mask = np.asarray(result.masks[0])
        assert (mask & planted).sum() / (mask | planted).sum() > 0.5


@every_method
@pytest.mark.parametrize(
    "extra", [(0, 0), (-3, -1), (-7, -6), (3, 2)], ids=["exact", "padded", "padded patches", "cropped"]
)
@pytest.mark.parametrize("grid", [(5, 5), (4, 17), (13, 3)])
def test_images_of_any_size_give_masks_of_their_size(name: str, grid: tuple[int, int], extra: tuple[int, int]) -> None:
    features, images = batch([0, 1], grid, extra)
    for result, one in zip(METHODS[name]()(features, images), features.geometries, strict=True):
        assert_well_formed(result, one)


@every_method
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 5)])
def test_tiny_images_are_processed(name: str, grid: tuple[int, int]) -> None:
    features, images = batch([0], grid)
    (result,) = METHODS[name]()(features, images)
    assert_well_formed(result, features.geometries[0])


@every_method
def test_the_same_input_gives_the_same_bits_also_after_pickling(name: str) -> None:
    features, images = batch([0, 1], (9, 12))
    method = METHODS[name]()
    first = method(features, images)
    for again in (method(features, images), pickle.loads(pickle.dumps(method))(features, images)):
        for one, other in zip(first, again, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - LOOK_AT_COLORS))
def test_images_whose_tokens_are_all_alike_have_no_object_and_a_reason(name: str) -> None:
    features, images = batch([0], (6, 7))
    flat = replace(features, tokens=torch.ones(1, 42, WIDTH), attention=torch.full((1, HEADS, 42), 0.02))
    (result,) = METHODS[name]()(flat, [np.full_like(images[0], 90)])
    assert_well_formed(result, features.geometries[0])
    assert len(result) == 0
    assert result.reason is not None
    assert re.fullmatch(r"no object: \w+ \w+ .*", result.reason)


@every_method
def test_features_that_are_not_finite_cost_their_image_alone(name: str) -> None:
    features, images = batch([0, 1, 2], (9, 12))
    tokens, attention = features.tokens.clone(), features.attention
    assert attention is not None
    tokens[1], attention = torch.nan, attention.clone()
    attention[1] = torch.nan
    method = METHODS[name]()
    healthy = method(features, images)
    first, broken, last = method(replace(features, tokens=tokens, attention=attention), images)
    assert len(broken) == 0
    assert broken.reason is not None
    for one, other in ((first, healthy[0]), (last, healthy[2])):
        assert_same(one, other, tolerance=1e-6)


@every_method
def test_an_empty_batch_gives_no_results(name: str) -> None:
    features, images = batch([0], (4, 5))
    assert METHODS[name]()(features[0:0], images[0:0]) == []
