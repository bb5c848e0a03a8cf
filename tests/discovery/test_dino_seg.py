"""DINO-seg equals the published steps, implemented again with loops, and the outputs of the published code."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from toy_features import apply, batch_of as features_of

from eigenseg.data import FeatureGrid, Geometry
from eigenseg.discovery.dino_seg import DinoSeg, dino_seg

Grid = tuple[int, int]


def reference(weights: list[int], grid: Grid, keep: Fraction, compat: bool) -> tuple[set[int], list[set[int]], int | None]:
    """Kept patches, components by first patch, and the index of the chosen one, in exact fractions.

    The last is None where the published code takes the background.
    """
    total, passed, kept = sum(weights), Fraction(0), set()
    for p in sorted(range(len(weights)), key=lambda p: (weights[p], p)):
        passed += Fraction(weights[p], total)
        if passed > 1 - keep:
            kept.add(p)
    components: list[set[int]] = []
    for p in sorted(kept):
        if any(p in component for component in components):
            continue
        reached, todo = {p}, [p]
        while todo:
            y, x = divmod(todo.pop(), grid[1])
            for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                q = row * grid[1] + column
                if 0 <= row < grid[0] and 0 <= column < grid[1] and q in kept - reached:
                    reached.add(q)
                    todo.append(q)
        components.append(reached)
    candidates = components[:-1] if compat else components
    if not candidates:
        return kept, components, None
    return kept, components, max(range(len(candidates)), key=lambda c: (len(candidates[c]), -c))


def numbers_of(mask: Tensor) -> set[int]:
    return set(mask.flatten().nonzero().flatten().tolist())


def random_attention(grid: Grid = (5, 6), image: int = 0, heads: int = 6) -> Tensor:
    """Attention (heads, N) like a softmax over patches and CLS."""
    raw = torch.randn(heads, grid[0] * grid[1] + 1, generator=torch.Generator().manual_seed(image))
    return (2 * raw).softmax(dim=1)[:, 1:]


def batch_of(attention: Tensor | None, grid: Grid, padding: tuple[int, int] = (0, 0)) -> FeatureGrid:
    count = 1 if attention is None else len(attention)
    return features_of(torch.zeros(count, grid[0] * grid[1], 6), grid, padding=padding, attention=attention)


@st.composite
def attentions(draw: st.DrawFn) -> tuple[list[int], Grid]:
    grid = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    weights = draw(st.lists(st.integers(0, 9), min_size=grid[0] * grid[1], max_size=grid[0] * grid[1]))
    return weights, grid


@given(attentions(), st.sampled_from([(1, 4), (5, 8), (15, 16)]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_everything_equals_the_published_steps_in_fractions(
    case: tuple[list[int], Grid], fraction: tuple[int, int], compat: bool
) -> None:
    weights, grid = case
    # A total of a power of two and a fraction of one, so that no rounding decides whether a sum reaches the limit.
    weights = [*weights[:-1], weights[-1] + (1 << sum(weights).bit_length()) - sum(weights)]
    kept, components, chosen = reference(weights, grid, Fraction(*fraction), compat)
    attention = torch.tensor(weights, dtype=torch.float32)[None, None]
    result = dino_seg(attention, grid, 0, fraction[0] / fraction[1], compat="reference" if compat else None)
    if len(set(weights)) == 1:
        assert result.flat.item()
        assert not (result.mask | result.attended).any()
        return
    assert numbers_of(result.attended) == kept
    assert [numbers_of(result.labels == c + 1) for c in range(len(components))] == components
    assert int(result.labels.max()) == len(components)
    everything = set(range(len(weights)))
    assert numbers_of(result.mask) == (everything - kept if chosen is None else components[chosen])
    assert int(result.chosen) == (0 if chosen is None else chosen + 1)
    np.testing.assert_allclose(result.fraction[0], np.array(weights) / sum(weights), atol=1e-15)


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("head", range(6))
def test_outputs_of_the_published_code_are_reproduced(test_data: Path, case: int, head: int) -> None:
    golden = np.load(test_data / "golden_reference" / "dino_seg.npz")
    attention = torch.from_numpy(golden[f"attention_{case}"])[:, :, 0, 1:]
    rows, columns = golden[f"dims_{case}"].tolist()
    keep = float(golden["mass_threshold"])
    result = dino_seg(attention, (rows, columns), head, keep, compat="reference")
    np.testing.assert_array_equal(result.attended[0], golden[f"masks_{case}"][head])
    np.testing.assert_array_equal(result.labels[0], golden[f"labels_{case}"][head])
    assert result.chosen.tolist() == [golden[f"chosen_component_{case}"][head]]
    assert (result.box[0] * int(golden[f"patch_size_{case}"])).tolist() == golden[f"boxes_{case}"][head].tolist()
    largest = dino_seg(attention, (rows, columns), head, keep)
    assert torch.equal(largest.labels, result.labels)
    sizes = np.bincount(golden[f"labels_{case}"][head].ravel())[1:]
    assert largest.chosen.tolist() == [1 + sizes.argmax()]


def test_a_batch_is_segmented_like_each_image_alone() -> None:
    attention = torch.stack(
        [*(random_attention(image=i) for i in range(4)), torch.ones(6, 30), torch.full((6, 30), torch.nan)]
    )
    together = dino_seg(attention, (5, 6))
    for i in range(6):
        for name, value in dino_seg(attention[i : i + 1], (5, 6))._asdict().items():
            assert torch.equal(getattr(together, name)[i : i + 1], value), name


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_only_the_chosen_head_matters_and_its_scale_does_not(seed: int, keep: float) -> None:
    attention = random_attention(image=seed)[None]
    result = dino_seg(attention, (5, 6), 2, keep)
    alone = dino_seg(8 * attention[:, 2:3], (5, 6), 0, keep)
    assert torch.equal(result.mask, alone.mask)
    kept = result.fraction[result.attended.flatten(1)]
    assert kept.sum() >= keep - 1e-12  # at least the requested fraction ...
    assert kept.sum() - kept.min() < keep + 1e-12  # ... and with one patch less it is not


def test_a_larger_fraction_keeps_more_patches() -> None:
    attention = torch.arange(1.0, 31.0)[None, None]
    kept = [numbers_of(dino_seg(attention, (5, 6), 0, keep).attended) for keep in (0.2, 0.4, 0.7, 0.95)]
    assert all(less < more for less, more in pairwise(kept))


@pytest.mark.parametrize("compat", [None, "reference"])
def test_the_most_attended_patch_is_kept_regardless_of_rounding(compat: Literal["reference"] | None) -> None:
    attention = torch.arange(1.0, 31.0)[None, None]  # 1 - 1e-17 is 1, and no sum of fractions exceeds it
    result = dino_seg(attention, (5, 6), 0, 1e-17, compat=compat)
    assert numbers_of(result.attended) == {29}
    assert not dino_seg(attention.requires_grad_(), (5, 6), 0).fraction.requires_grad


def test_invalid_patches_are_ignored() -> None:
    attention = random_attention((5, 8))[None]
    valid = (torch.arange(8) < 6).repeat(5)[None]
    alone = dino_seg(attention.view(1, 6, 5, 8)[..., :6].flatten(2), (5, 6))
    result = dino_seg(attention, (5, 8), valid=valid)
    assert torch.equal(result.mask[:, :, :6], alone.mask)
    assert not result.attended[:, :, 6:].any()
    torch.testing.assert_close(result.fraction.view(1, 5, 8)[..., :6].flatten(1), alone.fraction, rtol=1e-12, atol=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_patches_that_are_not_finite_are_ignored_and_counted(bad: float) -> None:
    attention = random_attention()[None].clone()
    attention[0, 4, [3, 20]] = bad
    valid = torch.ones(1, 30, dtype=torch.bool)
    valid[0, [3, 20]] = False
    result, without = dino_seg(attention, (5, 6)), dino_seg(attention, (5, 6), valid=valid)
    assert torch.equal(result.mask, without.mask)
    assert (result.non_finite.tolist(), without.non_finite.tolist()) == ([2], [0])


def test_result_is_in_original_pixels_with_its_seed_and_score() -> None:
    attention = random_attention()[None]
    seg, (result,) = dino_seg(attention, (5, 6)), apply(DinoSeg(), batch_of(attention, (5, 6)))
    np.testing.assert_array_equal(result.masks[0], seg.mask[0].numpy().repeat(4, axis=0).repeat(4, axis=1))
    np.testing.assert_array_equal(result.boxes, 4 * seg.box.numpy())
    inside = torch.where(seg.mask[0].flatten(), attention[0, 4], 0)
    seed = int(inside.argmax())
    assert result.extras["seed"] == [seed]
    assert result.extras["seed_point"] == [[4 * (seed % 6) + 2, 4 * (seed // 6) + 2]]
    assert result.scores[0] == pytest.approx(float(inside.sum() / attention[0, 4].sum()), abs=1e-6)
    assert result.extras["components"] == [int(seg.labels.max())]


def test_all_attention_on_one_patch_gives_that_patch_a_score_of_one() -> None:
    attention = torch.zeros(1, 6, 30)
    attention[0, 4, 17] = 0.3
    (result,) = apply(DinoSeg(), batch_of(attention, (5, 6)))
    assert result.scores.tolist() == [1.0]
    assert result.boxes.tolist() == [[20, 8, 24, 12]]


@pytest.mark.parametrize("compat", [None, "reference"])
def test_the_published_choice_boxes_the_background_of_a_single_component(compat: Literal["reference"] | None) -> None:
    attention = torch.full((1, 6, 30), 0.001)
    attention[0, 4, [14, 15]] = 0.4
    (result,) = apply(DinoSeg(compat=compat), batch_of(attention, (5, 6), padding=(2, 2)))
    assert result.boxes.tolist() == [[0, 0, 22, 18] if compat else [8, 8, 16, 12]]
    assert result.masks[0][10, 10] == (compat is None)


def test_padding_is_used_unless_it_is_dropped() -> None:
    attention = torch.full((1, 6, 30), 0.001)
    attention[0, 4, [5, 11, 17]] = 0.2  # in the last column
    attention[0, 4, [12, 13]] = 0.1
    features = batch_of(attention, (5, 6), padding=(0, 1))
    (published,), (dropped,) = apply(DinoSeg(), features), apply(DinoSeg(padding="drop"), features)
    assert published.boxes.tolist() == [[20, 0, 23, 12]]
    assert dropped.boxes.tolist() == [[0, 8, 8, 12]]


def reason_of(attention: Tensor, grid: Grid, **arguments: Any) -> str:
    (result,) = apply(DinoSeg(**arguments), batch_of(attention[None], grid))
    assert len(result) == 0
    return result.reason or ""


@pytest.mark.parametrize("compat", [None, "reference"])
def test_an_image_without_an_object_is_empty_with_a_reason(compat: Literal["reference"] | None) -> None:
    alike = "no object: the head attends to all patches equally"
    assert reason_of(torch.ones(6, 1), (1, 1), compat=compat) == alike
    assert reason_of(torch.full((6, 30), 0.01), (5, 6), compat=compat) == alike
    assert reason_of(torch.zeros(6, 30), (5, 6), compat=compat) == alike
    one_bad = torch.full((6, 30), 0.01)
    one_bad[4, 7] = torch.nan
    finite = "no object: no patch stands out among those whose attention is finite; check the backbone's precision"
    assert reason_of(torch.full((6, 30), torch.nan), (5, 6), compat=compat) == finite
    assert reason_of(one_bad, (5, 6), compat=compat) == finite


def test_an_object_in_the_padding_is_left_out() -> None:
    attention = torch.full((1, 6, 20), 0.001)
    attention[0, 4, 4::5] = 0.2
    image = Geometry((4, 4), (16, 16), (16, 20), 4)
    (result,) = apply(DinoSeg(), FeatureGrid(torch.zeros(1, 20, 6), (4, 5), "key", (image,), attention=attention))
    assert (len(result), result.reason) == (0, "no object: the attended patches lie in the padding")


def test_no_images_give_no_results() -> None:
    assert apply(DinoSeg(), batch_of(random_attention()[None], (5, 6))[0:0]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_head": -1}, "attention_head must be an integer of at least 0, got -1"),
        ({"attention_head": 1.0}, "attention_head must be an integer of at least 0, got 1.0"),
        ({"attention_head": True}, "attention_head must be an integer of at least 0, got True"),
        ({"keep": 0}, r"keep must be a number in \(0, 1\), got 0"),
        ({"keep": 1}, r"keep must be a number in \(0, 1\), got 1"),
        ({"keep": float("nan")}, r"keep must be a number in \(0, 1\), got nan"),
        ({"keep": "most"}, r"keep must be a number in \(0, 1\), got 'most'"),
        ({"padding": "crop"}, "padding must be 'keep' or 'drop', got 'crop'"),
        ({"compat": "old"}, "compat must be null or 'reference', got 'old'"),
    ],
)
def test_parameters_are_rejected_at_construction(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DinoSeg(**arguments)


def test_wrong_tensors_are_rejected_by_name() -> None:
    with pytest.raises(ValueError, match=r"attention_head must be in 0..2, the attention has 3 heads, got 4"):
        dino_seg(torch.rand(1, 3, 12), (3, 4))
    with pytest.raises(ValueError, match="grid 3x5 holds 15 patches, got 12"):
        dino_seg(torch.rand(1, 6, 12), (3, 5))
    with pytest.raises(ValueError, match="attention must be at least 0, as after a softmax, got -1"):
        dino_seg(torch.full((1, 6, 12), -1.0), (3, 4))
    with pytest.raises(TypeError, match="attention must be a torch tensor"):
        dino_seg(np.ones((1, 6, 12)), (3, 4))  # type: ignore[arg-type]
    for wrong in (torch.rand(6, 12), torch.ones(1, 6, 12, dtype=torch.int64), torch.rand(0, 6, 12)):
        with pytest.raises(ValueError, match=r"attention must be \(B, heads, N\) floating and not empty"):
            dino_seg(wrong, (3, 4))
    for valid in (torch.ones(1, 11, dtype=torch.bool), torch.ones(1, 12)):
        with pytest.raises(ValueError, match=r"valid must be \(1, 12\) bool, got"):
            dino_seg(torch.rand(1, 6, 12), (3, 4), valid=valid)
    with pytest.raises(ValueError, match="DinoSeg needs FeatureGrid.attention"):
        apply(DinoSeg(), batch_of(None, (3, 4)))
