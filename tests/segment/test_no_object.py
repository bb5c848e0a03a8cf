"""Images without an object have none, one disc is one object: over 20 seeds, with handcrafted and with real features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_features import apply
from toy_images import EMPTY, Image, disc, five_discs

from eigenseg.data import FeatureGrid, Preprocess
from eigenseg.data.geometry import Geometry
from eigenseg.discovery import ColorTexture, FeatureExtractor, TokenCut, ViTBackbone
from eigenseg.segment import DeepSpectral, MaskCut

SEEDS = range(20)
METHODS = (TokenCut(reject_flawed=True), MaskCut(tau=0.2, reject_flawed=True), DeepSpectral(reject_flawed=True))
NONE, ONE = [0] * 20, [1] * 20


def count(draw: Callable[[np.random.Generator], Image], extractor: FeatureExtractor) -> list[list[int]]:
    """Objects of each method for every seed."""
    found: list[list[int]] = [[] for _ in METHODS]
    for seed in SEEDS:
        features = extractor.extract([extractor.prepare(draw(np.random.default_rng(seed)))])
        for method, counts in zip(METHODS, found, strict=True):
            (result,) = apply(method, features)
            counts.append(len(result))
            assert len(result) or result.reason.startswith("no object: ")
    return found


@pytest.fixture(scope="module")
def handcrafted() -> FeatureExtractor:
    return FeatureExtractor(ColorTexture())


@pytest.fixture(scope="module")
def real(real_weights: Path) -> FeatureExtractor:
    backbone = ViTBackbone("vit_small_patch14_dinov2.lvd142m", str(real_weights), facet="token", position="dino")
    return FeatureExtractor(backbone, Preprocess("round", 322))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("draw", EMPTY.values(), ids=EMPTY)
def test_handcrafted_features_show_no_object_where_there_is_none(draw: Callable, handcrafted: FeatureExtractor) -> None:
    # Deep Spectral cannot tell the gradients of these features from the blurred outline of an object.
    assert count(draw, handcrafted) == [NONE, NONE, ONE if draw is EMPTY["gradient"] else NONE]


@pytest.mark.usefixtures("one_thread")
def test_handcrafted_features_show_one_disc(handcrafted: FeatureExtractor) -> None:
    assert count(disc, handcrafted) == [ONE, ONE, ONE]


@pytest.mark.usefixtures("one_thread")
def test_handcrafted_features_show_about_five_discs(handcrafted: FeatureExtractor) -> None:
    # Discs of colors that are close among the six of an image may be cut together, and blurred outlines are left over.
    salient, several, localized = count(five_discs, handcrafted)
    assert salient == localized == ONE
    assert 4 <= np.median(several) <= 6


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("draw", EMPTY.values(), ids=EMPTY)
def test_real_features_show_no_object_where_there_is_none(draw: Callable, real: FeatureExtractor) -> None:
    assert count(draw, real) == [NONE, NONE, NONE]


@pytest.mark.slow
@pytest.mark.weights
def test_real_features_show_one_disc_and_five(real: FeatureExtractor) -> None:
    assert count(disc, real) == [ONE, ONE, ONE]
    salient, several, localized = count(five_discs, real)
    assert salient == localized == ONE
    # Measured: 5 in 16 images and 6 in 4, where a leftover of the background differs just enough; without the rule 5 in 4.
    assert set(several) == {5, 6}
    assert Counter(several)[5] >= 15


def test_photographs_keep_their_objects(test_data: Path) -> None:
    for path in sorted((test_data / "real_tokens").glob("[0-9]*.npz")):
        stored = np.load(path)
        (height, width), (gh, gw) = stored["input_size"].tolist(), stored["grid"].tolist()
        geometry = Geometry((height, width), (height, width), (height, width), height // gh)
        features = FeatureGrid(torch.from_numpy(stored["tokens"]).float()[None], (gh, gw), "token", (geometry,))
        (kept,), (published,) = (apply(TokenCut(reject_flawed=flag), features) for flag in (True, False))
        np.testing.assert_array_equal(kept.masks, published.masks)
        first, every = (
            apply(MaskCut(tau=0.2, max_eigenvalue=1.0, reject_flawed=flag), features)[0] for flag in (True, False)
        )
        assert len(first)
        assert set(first.extras["round"]) <= set(every.extras["round"])
