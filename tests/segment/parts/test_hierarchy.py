"""Parts are nested, equal those of a scan of all pairs, and recover planted parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from toy_features import apply

from eigenseg.data import FeatureGrid, Geometry, Instances, Preprocess
from eigenseg.data.images import ImageArray
from eigenseg.segment.parts.hierarchy import PartHierarchy, part_tree
from eigenseg.segment.parts.merging import merge_levels

THRESHOLDS = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def all_pairs(
    tokens: NDArray[np.float64], inside: NDArray[np.bool_], thresholds: tuple[float, ...]
) -> list[NDArray[np.int64]]:
    """The same merging by comparing every pair of neighboring clusters in every step."""
    height, width = inside.shape
    labels = np.where(inside, np.arange(inside.size).reshape(inside.shape), -1)
    levels = []
    for threshold in thresholds:
        while True:
            best: tuple[float, int, int] | None = None
            for y in range(height):
                for x in range(width):
                    for v, u in ((y, x + 1), (y + 1, x)):
                        if v < height and u < width and labels[y, x] >= 0 and labels[v, u] >= 0:
                            i, j = sorted((int(labels[y, x]), int(labels[v, u])))
                            if i != j:
                                a, b = (
                                    tokens[(labels == i).ravel()].mean(axis=0),
                                    tokens[(labels == j).ravel()].mean(axis=0),
                                )
                                lengths = np.linalg.norm(a) * np.linalg.norm(b)
                                cosine = float(a @ b / lengths) if lengths else -1.0
                                if best is None or (-cosine, i, j) < best:
                                    best = (-cosine, i, j)
            if best is None or -best[0] < threshold:
                break
            labels[labels == best[2]] = best[1]
        levels.append(labels.copy())
    return levels


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 5))
def test_the_heap_merges_what_a_scan_of_all_pairs_merges(seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    tokens, inside = random.standard_normal((height * width, 4)), random.random((height, width)) < 0.8
    result = [labels for labels, _ in merge_levels(tokens, inside, THRESHOLDS)]
    for ours, theirs in zip(result, all_pairs(tokens, inside, THRESHOLDS), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_levels_are_nested_and_clusters_are_connected(seed: int) -> None:
    random = np.random.default_rng(seed)
    tokens, inside = random.standard_normal((48, 3)) + 0.5, random.random((6, 8)) < 0.85
    levels = [labels for labels, _ in merge_levels(tokens, inside, THRESHOLDS)]
    for fine, coarse in itertools.pairwise(levels):
        for root in np.unique(fine[inside]):
            assert len(np.unique(coarse[fine == root])) == 1
    parts = part_tree(tokens, inside, THRESHOLDS, min_tokens=2)
    for part in parts:
        around = inside if part.parent < 0 else parts[part.parent].mask
        assert not (part.mask & ~around).any()
        assert part.mask.sum() >= 2
        assert part.mask.sum() <= 0.9 * around.sum()


def planted() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """An object of two halves, the right one of two quarters: cosines 0.45 between the halves, 0.8 within the right one."""
    inside = np.zeros((6, 10), dtype=bool)
    inside[1:5, 1:9] = True
    left = np.array([1.0, 0, 0])
    upper, lower = np.array([0.45, 0.8, 0.4]), np.array([0.45, 0.8, -0.4])
    tokens = np.zeros((6, 10, 3))
    tokens[:, :5], tokens[:3, 5:], tokens[3:, 5:] = left, upper, lower
    return tokens.reshape(60, 3), inside


def test_planted_halves_and_quarters_become_a_tree() -> None:
    tokens, inside = planted()
    parts = part_tree(tokens, inside, (0.9, 0.6, 0.1))
    shown = [
        (sorted({int(i) for i in np.flatnonzero(part.mask.any(axis=0))}), int(part.mask.sum()), part.parent)
        for part in parts
    ]
    assert shown[:2] == [([1, 2, 3, 4], 16, -1), ([5, 6, 7, 8], 16, -1)]
    assert shown[2:] == [([5, 6, 7, 8], 8, 1), ([5, 6, 7, 8], 8, 1)]
    assert [part.level for part in parts] == [1, 1, 0, 0]
    assert parts[1].coherence == pytest.approx((0.45**2 + 0.8**2 - 0.4**2) / (0.45**2 + 0.8**2 + 0.4**2))


def test_tokens_of_zero_length_are_not_merged() -> None:
    labels, _ = merge_levels(np.zeros((6, 3)), np.ones((2, 3), dtype=bool), (0.1,))[0]
    assert np.unique(labels).size == 6


class Fixed:
    """Returns a given mask."""

    preprocess, needs_attention = Preprocess(mode="pad"), False

    def __init__(self, mask: NDArray[np.bool_] | None) -> None:
        self.mask = mask

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        size = features.geometries[0].image_size
        if self.mask is None:
            return [Instances.empty(size, "nothing")]
        box = np.array([[4, 4, 36, 20]], dtype=np.float32)
        return [Instances(self.mask[None], np.array([0.5]), box, size, extras={"seed": [3]})]


def grid_of(tokens: NDArray[np.float64]) -> FeatureGrid:
    return FeatureGrid(torch.from_numpy(tokens)[None], (6, 10), "test", (Geometry((24, 40), (24, 40), (24, 40), 4),))


def test_instances_start_with_the_object_and_hold_their_parents() -> None:
    tokens, inside = planted()
    pixels = np.kron(inside, np.ones((4, 4), dtype=bool))
    (result,) = apply(PartHierarchy(Fixed(pixels), thresholds=(0.9, 0.6, 0.1)), grid_of(tokens))
    assert result.extras["parent"] == [-1, 0, 0, 2, 2]
    assert result.extras["level"] == [-1, 1, 1, 0, 0]
    np.testing.assert_array_equal(result.masks[0], pixels)
    assert result.areas().tolist() == [512, 256, 256, 128, 128]
    np.testing.assert_array_equal(result.boxes[1], [4, 4, 20, 20])
    assert result.scores[0] == result.scores[1] == 0.5
    assert result.scores[2] < 0.5


def test_an_image_without_an_object_stays_as_it_is() -> None:
    (result,) = apply(PartHierarchy(Fixed(None)), grid_of(planted()[0]))
    assert result.reason == "nothing"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": []}, r"thresholds must be decreasing and in \[-1, 1\], got \[\]"),
        ({"thresholds": [0.2, 0.4]}, "thresholds must be decreasing"),
        ({"min_tokens": 0}, "min_tokens must be at least 1, got 0"),
        ({"max_overlap": 0}, r"max_overlap must be in \(0, 1\], got 0"),
    ],
)
def test_wrong_parameters_are_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PartHierarchy(Fixed(None), **options)
