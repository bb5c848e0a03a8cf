"""FOUND equals the outputs of the published code and an independent implementation; its head is a plain convolution."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor
from toy_features import apply, batch_of as features_of

from eigenseg.data import FeatureGrid, Geometry, Instances
from eigenseg.data.rle import RleMasks
from eigenseg.segment.found import FOUND, FoundHead, load_head
from eigenseg.segment.found.background import background
from eigenseg.segment.found.head import random_head

Grid = tuple[int, int]
GRID = (6, 8)
HEADS, WIDTH = 3, 12


def reference(
    attention: NDArray[np.float64], keys: NDArray[np.float64], weighted: bool
) -> tuple[int, list[float], list[float]]:
    """Least attended patch, cosines with it and weights of the heads of one image, one number at a time."""
    heads, count = attention.shape
    width = keys.shape[1] // heads
    mean = sum(attention[h][p] for h in range(heads) for p in range(count)) / (heads * count)
    density = [sum(1 for p in range(count) if attention[h][p] > mean) / count for h in range(heads)]
    total = sum(q + 1e-10 for q in density)
    weights = [math.log(total / (q + 1e-10)) if weighted else 1.0 for q in density]
    attended = [sum(weights[h] * attention[h][p] for h in range(heads)) for p in range(count)]
    least = attended.index(min(attended))
    scaled = [[keys[p][h * width + c] * weights[h] for h in range(heads) for c in range(width)] for p in range(count)]

    def cosine(p: int) -> float:
        dot = sum(a * b for a, b in zip(scaled[p], scaled[least], strict=True))
        lengths = math.sqrt(sum(a * a for a in scaled[p])) * math.sqrt(sum(a * a for a in scaled[least]))
        return dot / lengths

    return least, [cosine(p) for p in range(count)], weights


def scene(seed: int, grid: Grid = GRID) -> tuple[Tensor, Tensor]:
    """Attention (heads, N) and keys (N, D) of two rectangles, one larger, on a background."""
    generator = torch.Generator().manual_seed(seed)
    inside = torch.zeros(grid)
    inside[3:6, 4:8] = inside[1:3, 0:2] = 1
    noise = torch.randn(HEADS, *grid, generator=generator)
    attention = (2 * inside + noise).flatten().softmax(dim=0).view(HEADS, -1) * 0.9
    background_keys = torch.randn(2, WIDTH, generator=generator)
    keys = torch.where(inside.flatten()[:, None] > 0, background_keys[0], background_keys[1] - background_keys[0])
    attention *= torch.tensor([1.0, 0.5, 0.15])[:, None]
    return attention, keys + 1.7 * torch.randn(len(keys), WIDTH, generator=generator)


def scenes(count: int) -> tuple[Tensor, Tensor]:
    pairs = [scene(seed) for seed in range(count)]
    return torch.stack([attention for attention, _ in pairs]), torch.stack([keys for _, keys in pairs])


def batch_of(
    keys: Tensor, attention: Tensor | None = None, grid: Grid = GRID, patch: int = 4, padding: Grid = (0, 0)
) -> FeatureGrid:
    return features_of(keys, grid, patch, padding, attention=attention)


def by_logits(logits: Tensor, grid: Grid, padded: Grid = (0, 0), **arguments: Any) -> Instances:
    """Results of FOUND for logits (N,): the keys are logits, and the head is the identity."""
    head = FoundHead(1)
    head.load_state_dict({"decoder.weight": torch.ones(1, 1, 1, 1), "decoder.bias": torch.zeros(1)})
    (result,) = apply(FOUND("head", head, **arguments), batch_of(logits.view(1, -1, 1), None, grid, 4, padded))
    return result


@pytest.mark.parametrize("suffix", ["", "_unweighted"])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_outputs_of_the_published_code_are_reproduced(test_data: Path, suffix: str, threshold: float) -> None:
    golden = np.load(test_data / "golden_reference" / "found_background.npz")
    attention, keys = torch.from_numpy(golden["attentions"])[:, :, 0, 1:], torch.from_numpy(golden["keys"])[:, 1:]
    rows, columns = golden["featmap_dims"].tolist()
    epsilon = float(golden["epsilon"])
    result = background(attention, keys, (rows, columns), threshold, epsilon, weighted=not suffix)
    np.testing.assert_array_equal(result.mask, golden[f"background_th{round(10 * threshold):02d}{suffix}"])
    np.testing.assert_array_equal(result.seed, golden[f"reference_patch{suffix}"])
    np.testing.assert_allclose(result.similarity, golden[f"similarity_to_reference{suffix}"], atol=3e-7, rtol=0)
    np.testing.assert_allclose(result.mean_attention, golden["attention_threshold"], rtol=1e-6)
    np.testing.assert_allclose(result.density, golden["head_density"], rtol=1e-6)
    expected = np.ones((3, 6)) if suffix else golden["head_weights"]
    np.testing.assert_allclose(result.weights, expected, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(-0.9, 0.9))
@settings(max_examples=60, deadline=None)
def test_background_equals_the_published_steps_one_number_at_a_time(seed: int, weighted: bool, threshold: float) -> None:
    attention, keys = scene(seed)
    least, cosines, weights = reference(attention.double().numpy(), keys.double().numpy(), weighted)
    result = background(attention[None], keys[None], GRID, threshold, weighted=weighted)
    assert result.seed.tolist() == [least]
    np.testing.assert_allclose(result.similarity[0], cosines, atol=1e-12)
    np.testing.assert_allclose(result.weights[0], weights, atol=1e-12)
    assert result.mask[0].flatten().tolist() == [cosine > threshold for cosine in cosines]
    assert result.mask[0].flatten()[least]


def test_a_batch_is_cut_like_each_image_alone() -> None:
    attention, keys = scenes(5)
    attention[3], keys[4, :7] = 0.01, torch.nan
    together = background(attention, keys, GRID)
    for i in range(5):
        alone = background(attention[i : i + 1], keys[i : i + 1], GRID)
        for name, value in alone._asdict().items():
            if value.is_floating_point():
                torch.testing.assert_close(getattr(together, name)[i : i + 1], value, rtol=1e-13, atol=1e-14)
            else:
                assert torch.equal(getattr(together, name)[i : i + 1], value), name
    for head, outputs in ((None, "single"), ("random", "multi")):
        method = FOUND("head" if head else "background", head, outputs)  # type: ignore[arg-type]
        features = batch_of(keys, attention)
        for i, result in enumerate(apply(method, features)):
            (alone_result,) = apply(method, features[i : i + 1])
            np.testing.assert_array_equal(result.masks, alone_result.masks)
            np.testing.assert_allclose(result.metadata["saliency"], alone_result.metadata["saliency"], atol=1e-6)


def test_patches_attended_equally_little_give_the_first_one() -> None:
    attention, keys = scene(0)
    attention = attention.double()
    attention[:, [9, 30]] = 1e-6
    attention[:, 9] *= 1 + 1e-12  # within the tolerance of a tie
    assert background(attention[None], keys[None], GRID).seed.tolist() == [9]
    attention[:, 9] *= 1 + 1e-6
    assert background(attention[None], keys[None], GRID).seed.tolist() == [30]


def test_limits_are_strict_and_weights_choose_the_seed() -> None:
    attention = torch.tensor([[[3.0, 1.0, 2.0, 2.0], [2.0, 3.0, 0.0, 3.0]]])  # mean 2, met by three entries
    keys = torch.eye(4)[None].repeat_interleave(2, dim=2)
    result = background(attention, keys, (2, 2), threshold=0.0)
    assert (result.mean_attention.tolist(), result.density.tolist()) == ([2.0], [[0.25, 0.5]])
    np.testing.assert_allclose(result.weights, [[math.log(3), math.log(1.5)]], rtol=1e-8)
    # 1.099 a_0 + 0.405 a_1: 4.1, 2.3, 2.197, 3.4; without weights 5, 4, 2, 5
    assert result.seed.tolist() == [2]
    assert result.mask.flatten().tolist() == [False, False, True, False]  # a cosine of 0 is not above 0
    closer = attention + torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.0, -0.5, 0.5, 0.0]]])
    weighted, plain = (background(closer, keys, (2, 2), weighted=on).seed.tolist() for on in (True, False))
    assert (weighted, plain) == ([1], [2])


def test_the_background_carries_no_gradient() -> None:
    attention, keys = scenes(1)
    result = background(attention.requires_grad_(), keys.requires_grad_(), GRID)
    assert torch.is_grad_enabled()
    assert not any(value.requires_grad for value in result)


def test_invalid_patches_are_ignored() -> None:
    attention, keys = scene(1)
    wide = F.pad(attention.view(HEADS, *GRID), (0, 2), value=1e-9).flatten(1)
    wide_keys = F.pad(keys.view(*GRID, WIDTH), (0, 0, 0, 2), value=1.0).flatten(0, 1)
    valid = (torch.arange(10) < 8).repeat(6)[None]
    alone, result = (
        background(attention[None], keys[None], GRID),
        background(wide[None], wide_keys[None], (6, 10), valid=valid),
    )
    assert torch.equal(result.mask[:, :, :8], alone.mask)
    assert result.mask[:, :, 8:].all()
    assert divmod(int(result.seed), 10) == divmod(int(alone.seed), 8)
    for name in ("mean_attention", "density", "weights"):
        torch.testing.assert_close(getattr(result, name), getattr(alone, name), rtol=1e-12, atol=0)
    assert background(wide[None], wide_keys[None], (6, 10)).seed.item() % 10 >= 8


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["keys", "attention"])
def test_patches_that_are_not_finite_are_ignored_and_counted(where: str, bad: float) -> None:
    attention, keys = scene(2)
    valid = torch.ones(1, 48, dtype=torch.bool)
    valid[0, [10, 11]] = False
    expected = background(attention[None], keys[None], GRID, valid=valid)
    if where == "keys":
        keys[[10, 11], 5] = bad
    else:
        attention[1, [10, 11]] = bad
    result = background(attention[None], keys[None], GRID)
    assert torch.equal(result.mask, expected.mask)
    assert torch.equal(result.seed, expected.seed)
    assert (result.non_finite.tolist(), expected.non_finite.tolist()) == ([2], [0])
    (instances,) = apply(FOUND(), batch_of(keys[None], attention[None]))
    assert np.isfinite(instances.metadata["saliency"]).all()
    assert instances.metadata["non_finite_tokens"] == 2


def test_single_is_the_largest_foreground_component_and_multi_are_all() -> None:
    attention, keys = scene(3)
    objects = ~background(attention[None], keys[None], GRID).mask[0].numpy()
    labels, count = ndimage.label(objects)
    sizes = np.bincount(labels.ravel())[1:]
    order = sorted(range(count), key=lambda c: (-sizes[c], c))
    assert count > 2
    features = batch_of(keys[None], attention[None])
    (single,), (multi,) = apply(FOUND(), features), apply(FOUND(outputs="multi"), features)
    assert (len(single), len(multi)) == (1, count)
    for i, c in enumerate(order):
        np.testing.assert_array_equal(multi.masks[i], (labels == c + 1).repeat(4, axis=0).repeat(4, axis=1))
        rows, columns = np.nonzero(labels == c + 1)
        assert multi.boxes[i].tolist() == [
            4 * columns.min(),
            4 * rows.min(),
            4 * columns.max() + 4,
            4 * rows.max() + 4,
        ]
    np.testing.assert_array_equal(single.masks[0], multi.masks[0])
    assert single.metadata["background_seed"] == int(background(attention[None], keys[None], GRID).seed)


@pytest.mark.parametrize("threshold", [-0.4, 0.3, 0.8])
def test_saliency_without_a_head_is_one_half_where_the_background_ends(threshold: float) -> None:
    attention, keys = scene(4)
    result = background(attention[None], keys[None], GRID, threshold)
    image = Geometry(GRID, GRID, GRID, 1)  # one patch per pixel, so there is no interpolation
    features = FeatureGrid(keys[None], GRID, "key", (image,), attention=attention[None])
    (instances,) = apply(FOUND(threshold=threshold), features)
    saliency = instances.metadata["saliency"]
    assert (saliency.dtype, saliency.shape) == (np.float32, GRID)
    cosines = result.similarity[0].numpy()
    expected = np.interp(cosines, [-1, threshold, 1], [1, 0.5, 0])
    np.testing.assert_allclose(saliency.ravel(), expected, atol=1e-6)
    np.testing.assert_array_equal(saliency > 0.5, ~result.mask[0].numpy())


def test_score_is_the_mean_saliency_and_the_seed_its_peak() -> None:
    attention, keys = scene(3)
    for level in ("patch", "pixel"):
        (result,) = apply(FOUND(outputs="multi", level=level), batch_of(keys[None], attention[None]))  # type: ignore[arg-type]
        saliency = result.metadata["saliency"]
        for one in result:
            mask = one.masks[0]
            assert one.scores[0] == pytest.approx(saliency[mask].mean(), abs=1e-5)
            x, y = one.extras["seed_point"][0]
            assert mask[int(y), int(x)]
            assert saliency[int(y), int(x)] == saliency[mask].max()
            assert (x % 1, y % 1) == (0.5, 0.5)


@pytest.mark.parametrize("padding", [(0, 0), (3, 1)])
def test_saliency_of_a_head_is_the_sigmoid_of_bilinearly_upsampled_logits(padding: Grid) -> None:
    keys = scenes(2)[1]
    head = random_head(WIDTH, seed=5)
    logits = head.decoder(keys.mT.unflatten(2, GRID))
    upsampled = F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=False).sigmoid()[:, 0]
    height, width = 48 - padding[0], 64 - padding[1]
    expected = upsampled[:, :height, :width].numpy()
    features = batch_of(keys, None, patch=8, padding=padding)
    for i, result in enumerate(apply(FOUND("head", head, "multi", "pixel"), features)):
        np.testing.assert_allclose(result.metadata["saliency"], expected[i], atol=1e-6)
        labels, count = ndimage.label(result.metadata["saliency"] > 0.5)
        assert len(result) == count
        np.testing.assert_array_equal(np.any(result.masks, axis=0), labels > 0)
        assert result.areas().tolist() == sorted(np.bincount(labels.ravel())[1:], reverse=True)
        for mask, box in zip(np.asarray(result.masks), result.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    for i, result in enumerate(apply(FOUND("head", head, "single", "patch"), features)):
        labels, _ = ndimage.label(logits[i, 0].numpy() > 0)
        largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        full = largest.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        np.testing.assert_array_equal(result.masks[0], full)


def test_a_head_needs_no_attention_and_the_background_does() -> None:
    assert FOUND.needs_attention
    assert FOUND().needs_attention
    assert not FOUND("head", "random").needs_attention
    with pytest.raises(ValueError, match="FOUND needs FeatureGrid.attention"):
        apply(FOUND(), batch_of(scene(0)[1][None]))


def test_the_published_head_has_385_parameters_and_its_documented_names() -> None:
    head = FoundHead(384)
    assert sum(parameter.numel() for parameter in head.parameters()) == 385
    assert set(head.state_dict()) == {"decoder.weight", "decoder.bias"}
    keys = torch.randn(2, 10, 384)
    convolved = head.decoder(keys.mT[:, :, None])[:, 0, 0]
    torch.testing.assert_close(head(keys), convolved, rtol=1e-5, atol=1e-5)
    head(keys).sum().backward()  # the head is trainable
    assert head.decoder.weight.grad is not None


@pytest.mark.parametrize("prefix", ["decoder.", ""])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_head_is_read_from_a_file(tmp_path: Path, prefix: str, suffix: str) -> None:
    state = {f"{prefix}weight": torch.randn(1, WIDTH, 1, 1), f"{prefix}bias": torch.randn(1)}
    path = tmp_path / f"head{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    features = batch_of(scenes(1)[1])
    for source in (str(path), path):
        assert torch.equal(load_head(source).decoder.weight, state[f"{prefix}weight"])
        (result,) = apply(FOUND("head", source), features)
        (same,) = apply(FOUND("head", load_head(state)), features)
        np.testing.assert_array_equal(result.metadata["saliency"], same.metadata["saliency"])


GOOD = {"decoder.weight": torch.ones(1, 4, 1, 1), "decoder.bias": torch.ones(1)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "must hold decoder.weight and decoder.bias and nothing else, got nothing"),
        (
            {"decoder.weight": GOOD["decoder.weight"]},
            "must hold decoder.weight and decoder.bias and nothing else, got decoder.weight",
        ),
        ({**GOOD, "head.weight": torch.ones(1)}, "and nothing else, got decoder.bias, decoder.weight, head.weight"),
        ({**GOOD, "bias": torch.ones(1)}, "and nothing else, got bias, decoder.bias, decoder.weight"),
        ({**GOOD, "decoder.weight": torch.ones(2, 4, 1, 1)}, r"weight \[1, d, 1, 1\] and a bias \[1\], got \[2, 4, 1, 1\]"),
        ({**GOOD, "decoder.weight": torch.ones(1, 4, 3, 3)}, r"got \[1, 4, 3, 3\] and \[1\]"),
        ({**GOOD, "decoder.weight": torch.ones(1, 4)}, r"got \[1, 4\] and \[1\]"),
        ({**GOOD, "decoder.bias": torch.ones(2)}, r"got \[1, 4, 1, 1\] and \[2\]"),
        ({**GOOD, "decoder.bias": torch.full((1,), torch.nan)}, r"has values that are not finite \(decoder.bias\)"),
        (
            {**GOOD, "decoder.bias": torch.ones(1, dtype=torch.int64)},
            "holds decoder.bias as int64 numbers, expected plain tensors of floating-point numbers",
        ),
        ({**GOOD, "decoder.bias": 1.0}, "holds decoder.bias as a float, expected plain tensors of floating-point numbers"),
        ({**GOOD, "decoder.weight": GOOD["decoder.weight"].to_sparse()}, "holds decoder.weight as a sparse_coo tensor"),
        ({**GOOD, "decoder.weight": GOOD["decoder.weight"].to(torch.float8_e4m3fn)}, "decoder.weight as float8_e4m3fn"),
        ({**GOOD, "decoder.bias": torch.zeros(1, device="meta")}, r"decoder.bias as a tensor without values \(meta\)"),
    ],
)
def test_other_state_dicts_are_rejected_as_heads(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    torch.save(state, tmp_path / "head.pth")
    with pytest.raises(ValueError, match=rf"head: .*{message}"):
        load_head(state)
    with pytest.raises(ValueError, match=rf"head: .*head.pth.*{message}"):
        FOUND("head", tmp_path / "head.pth")


def test_files_without_tensors_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"\x80no checkpoint")
    (tmp_path / "noise.safetensors").write_bytes(b"no checkpoint")
    torch.save({"decoder.weight": Path("code")}, tmp_path / "pickled.pth")
    for name in ("noise.pth", "noise.safetensors", "pickled.pth"):
        with pytest.raises(
            ValueError, match=rf"head: .*{name} (is damaged or not a checkpoint|holds pickled Python objects)"
        ):
            load_head(tmp_path / name)
    torch.save(torch.ones(3), tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="holds a Tensor, expected a dict of tensors"):
        load_head(tmp_path / "bare.pth")
    with pytest.raises(FileNotFoundError, match="head: no such file .*; expected a .pth, .pt or .safetensors file or"):
        FOUND("head", tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="head: .* is a folder, expected a .pth, .pt or .safetensors file"):
        FOUND("head", tmp_path)


def test_a_random_head_warns_repeats_and_leaves_the_generator_alone(caplog: pytest.LogCaptureFixture) -> None:
    keys = scenes(1)[1]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        first, second = FOUND("head", "random"), FOUND("head", "random")
    assert caplog.messages == ["FOUND has a random head (seed 0): its results are meaningless"] * 2
    maps = [apply(method, batch_of(keys))[0].metadata["saliency"] for method in (first, second)]
    load_head(GOOD)
    np.testing.assert_array_equal(*maps)
    assert torch.equal(torch.get_rng_state(), before)
    assert maps[0].std() > 0.05


def test_a_head_for_another_width_is_rejected() -> None:
    with pytest.raises(ValueError, match="head is for tokens of width 384, the backbone's have 12"):
        apply(FOUND("head", FoundHead(384)), batch_of(scenes(1)[1]))


def test_padding_is_used_unless_it_is_dropped() -> None:
    logits = torch.full((4, 6), -3.0)
    logits[:, 4:], logits[0, :2] = 3.0, 2.0
    published = by_logits(logits, (4, 6), (0, 7))
    assert published.boxes.tolist() == [[16, 0, 17, 16]]
    dropped = by_logits(logits, (4, 6), (0, 7), padding="drop")
    assert dropped.boxes.tolist() == [[0, 0, 8, 4]]
    assert dropped.metadata["saliency"][:, 16:].max() < 0.05


def test_cropped_pixels_have_no_saliency() -> None:
    image = Geometry((18, 24), (18, 24), (16, 24), 4)
    keys = torch.linspace(1, 5, 24).view(1, 24, 1)
    head = load_head({"weight": torch.ones(1, 1, 1, 1), "bias": torch.zeros(1)})
    features = FeatureGrid(keys, (4, 6), "key", (image,))
    for level in ("patch", "pixel"):
        (result,) = apply(FOUND("head", head, level=level), features)  # type: ignore[arg-type]
        assert (result.metadata["saliency"][16:] == 0).all()
        assert not result.masks[0][16:].any()
        assert result.masks[0][:16].all()


def test_an_image_without_an_object_is_empty_with_a_reason_and_a_map() -> None:
    def reason(keys: Tensor, attention: Tensor, grid: Grid = GRID, **arguments: Any) -> str:
        features = batch_of(keys[None], attention[None], grid)
        (result,) = apply(FOUND(**arguments), features)
        assert len(result) == 0
        assert result.metadata["saliency"].shape == result.image_size
        assert np.isfinite(result.metadata["saliency"]).all()
        return (result.reason or "").removeprefix("no object: ")

    attention, keys = scene(0)
    head: dict[str, Any] = {"mode": "head", "head": "random"}
    for arguments in (
        {},
        head,
        {"outputs": "multi", "level": "pixel"},
        {**head, "outputs": "multi", "level": "pixel"},
    ):
        assert reason(keys[:1], attention[:, :1], (1, 1), **arguments).startswith("the image has a single token")
        assert reason(keys * torch.nan, attention, **arguments).startswith("no token has finite features")
        only = torch.full_like(keys, torch.nan)
        only[5] = 1
        assert reason(only, attention, **arguments).startswith("fewer than two tokens are left")
    assert reason(keys, torch.full_like(attention, 0.02)) == "no patch is attended less than others"
    assert reason(torch.zeros_like(keys), attention) == "no patch is attended less than others"
    assert reason(torch.ones_like(keys), attention) == "all tokens look alike, every patch is similar to the background"
    assert reason(torch.ones_like(keys), attention, **head) == "all patches have the same logit"
    assert "fewer than two tokens are left" in (by_logits(torch.arange(5.0), (1, 5), (1, 0), padding="drop").reason or "")
    for level in ("patch", "pixel"):
        flat = by_logits(torch.ones(20), (4, 5), level=level)  # foreground everywhere, but by accident
        assert (len(flat), flat.reason) == (0, "no object: all patches have the same logit")
        assert not flat.metadata["saliency"].any()
    assert by_logits(torch.linspace(-5, -1, 20), (4, 5)).reason == "no object: no saliency exceeds 0.5"
    logits = torch.full((4, 5), -1.0)
    logits[:, 4] = 1
    hidden = FeatureGrid(logits.view(1, 20, 1), (4, 5), "key", (Geometry((4, 4), (16, 16), (16, 20), 4),))
    plain = load_head({"weight": torch.ones(1, 1, 1, 1), "bias": torch.zeros(1)})
    assert apply(FOUND("head", plain), hidden)[0].reason == "no object: the object lies in the padding"


def test_the_whole_image_is_never_the_object_of_the_background_mode() -> None:
    for seed in range(20):
        attention, keys = scene(seed)
        (result,) = apply(FOUND(threshold=0.95, outputs="multi"), batch_of(keys[None], attention[None]))
        assert not np.any(result.masks, axis=0).all()


def test_many_components_are_kept_as_run_lengths_and_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([1.0, -1.0]).repeat(12).view(4, 6)
    logits[1::2] *= -1  # a chessboard
    dense = by_logits(logits, (4, 6), outputs="multi")
    monkeypatch.setattr("eigenseg.segment.found.found.DENSE_BYTES", 1000)
    compact = by_logits(logits, (4, 6), outputs="multi")
    assert isinstance(compact.masks, RleMasks)
    assert isinstance(dense.masks, np.ndarray)
    assert len(compact) == 12
    np.testing.assert_array_equal(np.asarray(compact.masks), dense.masks)
    np.testing.assert_array_equal(compact.boxes, dense.boxes)


def test_no_images_give_no_results() -> None:
    attention, keys = scenes(1)
    assert apply(FOUND(), batch_of(keys, attention)[0:0]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "both"}, "mode must be 'background' or 'head', got 'both'"),
        ({"outputs": "all"}, "outputs must be 'single' or 'multi', got 'all'"),
        ({"level": "token"}, "level must be 'patch' or 'pixel', got 'token'"),
        ({"padding": "crop"}, "padding must be 'keep' or 'drop', got 'crop'"),
        ({"threshold": 1}, r"threshold must be a number in \[-1, 1\), got 1"),
        ({"threshold": float("nan")}, r"threshold must be a number in \[-1, 1\), got nan"),
        ({"epsilon": 0}, r"epsilon must be a number in \(0, 1\), got 0"),
        ({"epsilon": "small"}, r"epsilon must be a number in \(0, 1\), got 'small'"),
        ({"mode": "head"}, "mode='head' needs a trained head, method.head=found.pth .*; mode='background' needs none"),
        ({"head": "random"}, "head='random' is used with mode='head' only, got mode='background'"),
    ],
)
def test_parameters_are_rejected_at_construction(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FOUND(**arguments)


def test_wrong_tensors_are_rejected_by_name() -> None:
    attention, keys = scenes(2)
    with pytest.raises(ValueError, match=r"keys must be \(2, 48, a multiple of 3 heads\), got \(2, 48, 11\)"):
        background(attention, keys[..., 1:], GRID)
    with pytest.raises(ValueError, match=r"keys must be \(2, 48, a multiple of 3 heads\), got \(1, 48, 12\)"):
        background(attention, keys[:1], GRID)
    with pytest.raises(ValueError, match="grid 6x7 holds 42 patches, got 48"):
        background(attention, keys, (6, 7))
    with pytest.raises(TypeError, match="attention must be a torch tensor"):
        background(attention.numpy(), keys, GRID)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="features must be a torch tensor"):
        background(attention, keys.numpy(), GRID)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weighted=True compares heads with each other, the attention has one"):
        background(attention[:, :1], keys, GRID)
    assert background(attention[:, :1], keys, GRID, weighted=False).has_contrast.all()
    with pytest.raises(ValueError, match=r"valid must be \(2, 48\) bool"):
        background(attention, keys, GRID, valid=torch.ones(2, 47, dtype=torch.bool))
    with pytest.raises(ValueError, match="threshold must be"):
        background(attention, keys, GRID, threshold=2)


def test_the_background_takes_any_facet_and_a_head_only_its_own() -> None:
    attention, keys = scenes(2)
    features = batch_of(keys, attention)
    tokens = FeatureGrid(keys, GRID, "token", features.geometries, attention=attention)
    for one, other in zip(apply(FOUND(), features), apply(FOUND(), tokens), strict=True):
        assert one.equals(other)
    with pytest.raises(
        ValueError, match="FOUND was trained on facet 'key', the backbone gives 'token'; set backbone.facet=key, or"
    ):
        apply(FOUND(mode="head", head=random_head(WIDTH)), tokens)
    with pytest.raises(
        ValueError, match="head_facet must be query, key, value, token, or several joined by '\\+', got 'foo'"
    ):
        FOUND(head_facet="foo")
    trained_on_tokens = FOUND(mode="head", head=random_head(WIDTH), head_facet="token")
    for one, other in zip(
        apply(FOUND(mode="head", head=random_head(WIDTH)), features), apply(trained_on_tokens, tokens), strict=True
    ):
        assert one.equals(other)
