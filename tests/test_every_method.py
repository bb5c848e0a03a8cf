"""What every method promises, whatever it computes: a new one gets these tests by a line in ``METHODS``."""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from result_checks import assert_kept_by_records, assert_same, assert_well_formed

from eigenseg.data import FeatureGrid, Geometry, ImageSource, Instances
from eigenseg.data.images import ImageArray
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
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
        assert_well_formed(result, one.image_size)
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
        assert_well_formed(result, one.image_size)


@every_method
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 5)])
def test_tiny_images_are_processed(name: str, grid: tuple[int, int]) -> None:
    features, images = batch([0], grid)
    (result,) = METHODS[name]()(features, images)
    assert_well_formed(result, features.geometries[0].image_size)


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
    assert_well_formed(result, features.geometries[0].image_size)
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


@functools.cache
def some_results(name: str) -> list[Instances]:
    """Of four images and one without an object."""
    features, images = batch(range(4), (8, 10), (-3, -1))
    flat = replace(features[:1], tokens=torch.ones(1, 80, WIDTH), attention=torch.full((1, HEADS, 80), 0.01))
    method = METHODS[name]()
    return [*method(features, images), *method(flat, [np.full_like(images[0], 90)])]


@every_method
def test_a_record_gives_the_results_back(name: str, tmp_path: Path) -> None:
    for result in some_results(name):
        assert_kept_by_records(result, tmp_path)


@every_method
def test_the_json_of_a_run_is_read_by_pycocotools(name: str, tmp_path: Path) -> None:
    results = some_results(name)
    sources = [ImageSource(tmp_path / f"{i}.png", f"{i}.png") for i in range(len(results))]
    store = ResultStore(tmp_path, {})
    for source, result in zip(sources, results, strict=True):
        store.add(Record.of(source.name, None, result))
    coco = COCO(str(store.finish(sources)))
    assert [image["file_name"] for image in coco.dataset["images"]] == [source.name for source in sources]
    for image, result in zip(coco.dataset["images"], results, strict=True):
        assert (image["height"], image["width"]) == result.image_size
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        masks = np.asarray(result.masks)
        for annotation, mask, box, score in zip(annotations, masks, result.boxes, result.scores, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == np.count_nonzero(mask)
            assert annotation["score"] == pytest.approx(float(score), rel=1e-6)
            x, y, width, height = annotation["bbox"]
            assert [x, y, x + width, y + height] == pytest.approx(box.tolist(), rel=1e-6)
