"""FOUND's losses and targets equal an implementation pixel by pixel; a trained head goes into the method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from toy_features import batch_of

from eigenseg.data import FeatureGrid
from eigenseg.data.datasets import UnlabeledImages
from eigenseg.discovery import ColorTexture, FeatureExtractor, ViTBackbone
from eigenseg.discovery.trainable import as_trainable
from eigenseg.segment.found import FOUND, FoundRecipe, solver_targets
from eigenseg.segment.found.augmentation import random_crop
from eigenseg.segment.found.background import background
from eigenseg.segment.found.targets import without_most_frequent
from eigenseg.segment.refine.bilateral import bilateral_solve

pytestmark = pytest.mark.usefixtures("one_thread")


def flood(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Labels by flood fill: 0 for the background as a whole, then each 4-connected component."""
    labels = np.zeros(mask.shape, dtype=np.int64)
    count = 0
    for y, x in np.argwhere(mask):
        if labels[y, x]:
            continue
        count += 1
        stack = [(y, x)]
        while stack:
            r, c = stack.pop()
            if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c] and not labels[r, c]:
                labels[r, c] = count
                stack += [(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)]
    return labels


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
@settings(max_examples=40, deadline=None)
def test_the_most_frequent_label_is_left_out(seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((7, 9)) < density
    labels = flood(mask)
    counts = [int((labels == label).sum()) for label in range(labels.max() + 1)]
    expected = labels != counts.index(max(counts))
    assert np.array_equal(without_most_frequent(torch.from_numpy(mask)[None])[0].numpy(), expected)


def test_a_moved_mask_replaces_its_mask_above_the_iou_alone() -> None:
    rng = np.random.default_rng(0)
    image = np.full((48, 64, 3), 40, np.uint8)
    image[12:36, 20:44] = 200
    image += rng.integers(0, 8, image.shape, dtype=np.uint8)
    near, far = np.zeros((2, 48, 64), dtype=bool)
    near[10:34, 18:46] = True  # about the square
    far[0:2, 0:2] = True  # which the solver wipes out
    images, masks = [torch.from_numpy(image)] * 2, torch.from_numpy(np.stack([near, far]))
    result = solver_targets(images, masks)
    soft = torch.cat([one.soft for one in bilateral_solve(images, [mask[None] for mask in masks])])
    labels = flood((soft[0] > 0.5).numpy())
    counts = np.bincount(labels.ravel())
    moved = labels != counts.argmax()
    iou = (moved & near).sum() / (moved | near).sum()
    assert 0.5 < iou < 1
    assert np.array_equal(result[0].numpy(), moved)
    assert np.array_equal(result[1].numpy(), far)
    assert np.array_equal(solver_targets(images, masks, min_iou=float(iou))[0].numpy(), near)  # strict


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, (height, width) in enumerate([(60, 90), (80, 50), (70, 70)]):
        image = np.random.default_rng(i).integers(0, 90, (height, width, 3), dtype=np.uint8)
        image[20:45, 15:40] += 140
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return folder


@pytest.fixture(scope="module")
def backbone() -> ViTBackbone:
    return ViTBackbone("vit_tiny_patch16_224", weights="random", model_args={"depth": 1})


def trainable(photos: Path, backbone: Any, recipe: FoundRecipe, **arguments: Any) -> tuple[Any, Any]:
    training = as_trainable(FOUND(recipe=recipe, **arguments))
    return training, training.samples(UnlabeledImages(photos), FeatureExtractor(backbone))


def entropy(logit: float, target: bool) -> float:
    return math.log1p(math.exp(-logit)) if target else math.log1p(math.exp(logit))


@pytest.mark.parametrize("padding", ["keep", "drop"])
def test_the_losses_are_the_specs_before_and_after_the_warmup(photos: Path, backbone: ViTBackbone, padding: Any) -> None:
    recipe = FoundRecipe(crop=64, warmup=2, min_scale=0.5, max_scale=1.5)
    training, samples = trainable(photos, backbone, recipe, padding=padding)
    with torch.no_grad():  # an untrained head says the same everywhere
        training.head.decoder.weight.mul_(30)
    batch = samples.collate([samples.item(i, np.random.default_rng(i)) for i in range(3)])
    assert any(crop.geometry.scaled_size != (64, 64) for crop in batch)
    features = FeatureExtractor(backbone).extract(batch, attention=True)
    logits = training.head(features.tokens).detach().view(3, 4, 4)
    valid = ~features.padded_tokens() if padding == "drop" else None
    objects = ~background(features.attention, features.tokens, (4, 4), valid=valid).mask
    expected = {"refined": 0.0, "background": 0.0, "own": 0.0}
    pixels = 0
    for i, crop in enumerate(batch):
        up = torch.from_numpy(cv2.resize(logits[i].numpy(), (64, 64), interpolation=cv2.INTER_LINEAR))
        image = [crop.pixels.permute(1, 2, 0)]
        own = solver_targets(image, (up > 0)[None])[0]
        first = solver_targets(image, torch.from_numpy(np.kron(objects[i].numpy(), np.ones((16, 16))) > 0)[None])[0]
        rows, columns = crop.geometry.scaled_size if padding == "drop" else (64, 64)
        for y in range(rows):
            for x in range(columns):
                pixels += 1
                logit = float(up[y, x])
                expected["refined"] += 1.5 * entropy(logit, bool(own[y, x]))
                expected["background"] += entropy(logit, bool(first[y, x]))
                expected["own"] += 4.0 * entropy(logit, logit > 0)
    for step, names in ((0, ["refined", "background"]), (1, ["refined", "background"]), (2, ["refined", "own"])):
        training.after_step(step)
        losses = training.loss(batch)
        assert list(losses) == names
        for name in names:
            assert losses[name].item() == pytest.approx(expected[name] / pixels, rel=1e-4), name


def test_the_gradient_reaches_the_head_alone(photos: Path, backbone: ViTBackbone) -> None:
    training, samples = trainable(photos, backbone, FoundRecipe(crop=32))
    sum(training.loss([samples.item(0, np.random.default_rng(0))]).values()).backward()
    assert {name for name, one in training.named_parameters() if one.grad is not None} == {
        "head.decoder.weight",
        "head.decoder.bias",
    }
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_the_method_of_the_training_uses_the_heads_weights_and_the_settings(photos: Path, backbone: ViTBackbone) -> None:
    training, _ = trainable(photos, backbone, FoundRecipe(crop=32), outputs="multi", level="pixel", padding="drop")
    method = training.inference()
    assert (method.mode, method.outputs, method.level, method.padding, method.needs_attention) == (
        *("head", "multi", "pixel", "drop"),
        False,
    )
    tokens = torch.randn(1, 16, 192, generator=torch.Generator().manual_seed(0))
    assert torch.equal(method.head(tokens), training.head(tokens))
    before = method.head(tokens)
    with torch.no_grad():
        training.head.decoder.bias.add_(1)
    assert torch.equal(method.head(tokens), before)  # a copy


def test_a_crop_is_a_window_of_the_scaled_image_or_the_image_and_padding() -> None:
    y, x = np.indices((200, 300))
    image = np.stack([y, x % 256, x // 256], axis=2).astype(np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(20):
        crop = random_crop(image, rng, 64, 16, scales=(1.0, 1.0), blur=0.0)
        top, left = int(crop.image[0, 0, 0]), int(crop.image[0, 0, 1]) + 256 * int(crop.image[0, 0, 2])
        assert np.array_equal(crop.image, image[top : top + 64, left : left + 64])
        assert np.array_equal(crop.pixels.permute(1, 2, 0).numpy(), crop.image)
    small = random_crop(image, rng, 64, 16, scales=(0.1, 0.1), blur=0.0)
    assert small.geometry.scaled_size == (20, 30)
    assert not small.pixels[:, 20:].any()
    assert not small.pixels[:, :, 30:].any()
    assert random_crop(image, rng, 60, 16).pixels.shape == (3, 64, 64)  # whole patches
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    spread = [
        np.mean([random_crop(noise, np.random.default_rng(i), 64, 16, (1, 1), blur).image.std() for i in range(9)])
        for blur in (0.0, 0.5, 1.0)
    ]
    assert spread[0] > spread[1] + 5 > spread[2] + 10


def test_what_cannot_be_trained_on_is_said_at_once(photos: Path) -> None:
    with pytest.raises(ValueError, match="training needs CLS attention, which backbone ColorTexture does not have"):
        trainable(photos, ColorTexture(), FoundRecipe())
    with pytest.raises(ValueError, match="FOUND trains on features, and backbone is null"):
        as_trainable(FOUND()).samples(UnlabeledImages(photos), None)
    with pytest.raises(ValueError, match="ColorTexture has nothing to train; trainable methods are FOUND"):
        as_trainable(ColorTexture())
    for wrong in ({"warmup": -1}, {"min_iou": 2}, {"crop": 0}, {"min_scale": 0.0}, {"min_scale": 4.0}, {"blur": math.nan}):
        with pytest.raises(ValueError, match=rf"recipe\.{next(iter(wrong))}"):
            FoundRecipe(**wrong)
    with pytest.raises(ValueError, match="have no annotations"):
        UnlabeledImages(photos).annotation(0)


def test_the_heads_file_says_which_facet_it_is_for(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    tensors = {"decoder.weight": torch.randn(1, 12, 1, 1), "decoder.bias": torch.zeros(1)}
    save_file(tensors, path, {"facet": "token"})
    keys = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(0))
    features = batch_of(keys, (3, 4))
    tokens = FeatureGrid(keys, (3, 4), "token", features.geometries)
    image = [np.zeros((*features.geometries[0].image_size, 3), np.uint8)]
    FOUND("head", path)(tokens, image)
    with pytest.raises(ValueError, match="trained on facet 'token', the backbone gives 'key'; set backbone.facet=token"):
        FOUND("head", path)(features, image)
    with pytest.raises(ValueError, match="head_facet=key and .*, which says that it was trained on facet 'token', differ"):
        FOUND("head", path, head_facet="key")
