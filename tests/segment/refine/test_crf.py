"""The CRF equals sums over all pairs of pixels and the published lattice, and has the invariants of any image."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from eigenseg.segment.refine import DEEP_SPECTRAL, MASKCUT, CRFParameters, DenseCRF, dense_crf, mask_energies, refine_crf
from eigenseg.segment.refine.cleanup import fill_holes
from eigenseg.segment.refine.meanfield import Term, mean_field

Array = NDArray[np.float64]
# Mean field with MaskCut's weights may flip single pixels where kernels differ: there even the published code is 0.9 away
# from exact kernels. So the mean and the 99 % quantile are bounded. These hold on the images of this file; for others see
# AGREEMENT.
MARGINALS, LABELS = 0.05, 0.99


def scene(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A bright blob on a dark noisy background, and a coarse mask of it: (H, W, 3) uint8 and (1, H, W) bool."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))
    blob = ((rows - height / 2) / (height / 3)) ** 2 + ((columns - width / 2) / (width / 3.5)) ** 2 < 1
    shade = np.where(blob[..., None], random.integers(140, 200, 3), random.integers(20, 90, 3))
    image = (shade + random.normal(0, 5, (height, width, 3))).clip(0, 255).astype(np.uint8)
    coarse = blob[2::4, 2::4].repeat(4, 0).repeat(4, 1)
    coarse = np.pad(coarse, ((0, height), (0, width)))[:height, :width]
    return torch.from_numpy(image), torch.from_numpy(coarse)[None]


def brute_force(image: Tensor, energies: Array, parameters: CRFParameters) -> Array:
    """Mean field with every pair of pixels: energies (L, N) to marginals (L, N)."""
    height, width = image.shape[:2]
    y, x = np.indices((height, width)).reshape(2, -1)
    colors = image.numpy().reshape(-1, 3).astype(float)
    kernels: list[tuple[float, Array]] = []
    for weight, features in (
        (parameters.gaussian_weight, np.stack([x, y], axis=1) / parameters.gaussian_sxy),
        (
            parameters.bilateral_weight,
            np.concatenate(
                [np.stack([x, y], axis=1) / parameters.bilateral_sxy, colors / parameters.bilateral_srgb], axis=1
            ),
        ),
    ):
        kernel = np.exp(-((features[:, None] - features[None]) ** 2).sum(axis=2) / 2)
        root = np.sqrt(kernel.sum(axis=1))
        kernels.append((weight, kernel / root[:, None] / root))
    labels = len(energies)

    def softmax(values: Array) -> Array:
        shifted = np.exp(values - values.max(axis=0))
        return shifted / shifted.sum(axis=0)

    q = softmax(-energies)
    for _ in range(parameters.iterations):
        # Potts: a label's energy is the mass of the other labels, unlike in the implementation.
        others = (1 - np.eye(labels)) @ q
        q = softmax(-energies - sum(weight * (others @ kernel) for weight, kernel in kernels))
    return q


def closeness(first: Tensor, second: Array | Tensor) -> tuple[float, float, float]:
    """Mean and 99 % quantile of the marginals' differences, fraction of equal labels; (L, H, W) both."""
    other = torch.as_tensor(second).double().reshape(first.shape)
    difference = (first.double() - other).abs().flatten()
    return (
        float(difference.mean()),
        float(difference.quantile(0.99)),
        float((first.argmax(0) == other.argmax(0)).double().mean()),
    )


def with_exact_kernels(image: Tensor, energies: Tensor, parameters: CRFParameters) -> Tensor:
    """Mean field with matrices over all pairs of pixels: energies (1, L, H, W) to marginals (L, H, W)."""
    height, width = image.shape[:2]
    y, x = np.indices((height, width)).reshape(2, -1)
    positions, colors = torch.from_numpy(np.stack([x, y], axis=1)).double(), image.reshape(-1, 3).double()
    bilateral = torch.cat([positions / parameters.bilateral_sxy, colors / parameters.bilateral_srgb], dim=1)
    terms = []
    for weight, points in (
        (parameters.gaussian_weight, positions / parameters.gaussian_sxy),
        (parameters.bilateral_weight, bilateral),
    ):
        kernel = torch.exp(-(torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / 2)
        scale = kernel.sum(dim=1).rsqrt()
        terms.append(Term(weight, (scale[:, None] * kernel * scale).matmul))
    marginals = mean_field(energies.double().flatten(2).permute(2, 0, 1), terms, parameters.iterations)
    return marginals[:, 0].T.reshape(-1, height, width)


@pytest.mark.parametrize("parameters", [MASKCUT, DEEP_SPECTRAL], ids=["maskcut", "deep_spectral"])
@pytest.mark.parametrize("seed", range(3))
def test_marginals_are_those_of_sums_over_all_pairs(parameters: CRFParameters, seed: int) -> None:
    image, mask = scene(28, 36, seed)
    energies = mask_energies(mask.double(), parameters.unary, parameters.floor)
    (result,) = dense_crf([image], [energies], parameters)
    exact = brute_force(image, energies[0].flatten(1).numpy(), parameters)
    mean, most, labels = closeness(result[0], exact)
    assert mean < MARGINALS / 10
    assert most < MARGINALS
    assert labels >= LABELS


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_any_number_of_labels_equals_sums_over_all_pairs_exactly_where_the_kernel_is_exact(labels: int) -> None:
    image, _ = scene(12, 17)
    energies = torch.randn(2, labels, 12, 17, generator=torch.Generator().manual_seed(labels), dtype=torch.float64)
    parameters = CRFParameters(gaussian_weight=2.0, gaussian_sxy=1.5, bilateral_weight=0.0, iterations=4)
    (result,) = dense_crf([image], [energies], parameters)
    for k in range(2):
        exact = brute_force(image, energies[k].flatten(1).numpy(), parameters).reshape(labels, 12, 17)
        np.testing.assert_allclose(result[k], exact, rtol=0, atol=1e-11)


def test_mean_field_takes_any_kernel_and_equals_the_update_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    unary = torch.randn(20, 1, 3, generator=generator, dtype=torch.float64)
    first, second = (torch.rand(20, 20, generator=generator, dtype=torch.float64) / 20 for _ in range(2))
    q = torch.softmax(-unary, dim=-1)
    for _ in range(3):
        q = torch.softmax(-unary + 2 * (first @ q[:, 0])[:, None] + 5 * (second @ q[:, 0])[:, None], dim=-1)
    products: list[Callable[[Tensor], Tensor]] = [lambda v: first @ v, lambda v: second @ v]
    result = mean_field(unary, [Term(2.0, products[0]), Term(5.0, products[1])], 3)
    torch.testing.assert_close(result, q, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", range(2))
def test_published_marginals_are_met_with_both_kernels_on_the_lattice(case: int, test_data: Path) -> None:
    golden = np.load(test_data / "golden_reference" / "crf.npz")
    image, mask = torch.from_numpy(golden[f"image_{case}"]), torch.from_numpy(golden[f"mask_{case}"]).bool()[None]
    energies = mask_energies(mask)
    np.testing.assert_allclose(energies.flatten(), golden[f"unary_{case}"].ravel(), atol=1e-7)
    expected = golden[f"q_{case}"]
    (result,) = dense_crf([image], [energies], MASKCUT, compat="reference")
    np.testing.assert_allclose(result[0], expected, rtol=0, atol=1e-4)
    for count, foreground in zip(golden["iterations_listed"], golden[f"q_foreground_by_iteration_{case}"], strict=True):
        part = CRFParameters(iterations=int(count))
        np.testing.assert_allclose(dense_crf([image], [energies], part, compat="reference")[0][0, 1], foreground, atol=1e-4)
    for name, one in (
        ("gaussian", CRFParameters(bilateral_weight=0.0, iterations=1)),
        ("bilateral", CRFParameters(gaussian_weight=0.0, iterations=1)),
    ):
        (single,) = dense_crf([image], [energies], one, compat="reference")
        np.testing.assert_allclose(single[0, 1], golden[f"q1_{name}_only_{case}"], rtol=0, atol=1e-5)
    (refined,) = refine_crf([image], [mask], holes=False, compat="reference")
    np.testing.assert_array_equal(refined.masks[0], golden[f"map_{case}"])
    # With the exact Gaussian, the default, nearly as close.
    mean, _, labels = closeness(dense_crf([image], [energies], MASKCUT)[0][0], torch.from_numpy(expected))
    assert mean < 0.001
    assert labels > 0.998


@pytest.mark.parametrize("case", range(2))
def test_photographs_are_as_near_to_exact_kernels_as_the_published_lattice_is(case: int, test_data: Path) -> None:
    golden = np.load(test_data / "golden_reference" / "crf.npz")
    image, energies = (
        torch.from_numpy(golden[f"image_{case}"]),
        mask_energies(torch.from_numpy(golden[f"mask_{case}"]).bool()[None]),
    )
    exact = with_exact_kernels(image, energies, MASKCUT)
    mean, _, labels = closeness(dense_crf([image], [energies])[0][0], exact)
    assert mean < 0.015
    assert labels >= LABELS


# Labels equal to those of exact kernels: the mean over crops of photographs, and the least of a crop. Set from 61 and 76
# crops (mean 0.984 and 0.997, least 0.90 and 0.97), with room for the spread of means of 15; the crops below are others.
AGREEMENT = {"maskcut": (0.965, 0.85), "deep_spectral": (0.99, 0.95)}


@pytest.mark.parametrize("name", AGREEMENT)
def test_over_many_photographs_labels_are_as_near_to_exact_kernels_as_documented_and_as_the_published_lattices(
    name: str, test_data: Path
) -> None:
    parameters = {"maskcut": MASKCUT, "deep_spectral": DEEP_SPECTRAL}[name]
    photos = (
        sorted((test_data / "photos").glob("*.jpg"))[1::3] + sorted((test_data / "coco_tiny/val2017").glob("*.jpg"))[56:64]
    )
    random = np.random.default_rng(2026)
    ours, published = [], []
    for path in photos:
        image = np.array(Image.open(path).convert("RGB"))
        y, x = random.integers(0, image.shape[0] - 48), random.integers(0, image.shape[1] - 64)
        crop = torch.from_numpy(image[y : y + 48, x : x + 64].copy())
        mask = torch.zeros(
            1, 48, 64, dtype=torch.bool
        )  # two thirds of the crop from one of its sides, in blocks of 8 pixels
        mask[0, *((slice(None), slice(0, 40)) if random.random() < 0.5 else (slice(16, 48), slice(None)))] = True
        energies = mask_energies(mask, parameters.unary, parameters.floor)
        exact = with_exact_kernels(crop, energies, parameters)
        if not 0.05 < float(exact.argmax(0).double().mean()) < 0.95:
            continue  # a mask that vanishes with any kernel says nothing
        for compat, values in ((None, ours), ("reference", published)):
            (result,) = dense_crf([crop], [energies], parameters, compat=compat)  # type: ignore[arg-type]
            values.append(closeness(result[0], exact)[2])
    assert len(ours) >= 8
    mean, least = AGREEMENT[name]
    assert np.mean(ours) >= max(mean, np.mean(published) - 0.005)
    assert min(ours) >= least


@pytest.mark.parametrize("compat", [None, "reference"])
def test_swapping_labels_swaps_their_marginals(compat) -> None:  # type: ignore[no-untyped-def]
    image, _ = scene(20, 24)
    energies = torch.randn(1, 3, 20, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (result,) = dense_crf([image], [energies], compat=compat)
    for order in ([1, 0, 2], [2, 0, 1]):
        (swapped,) = dense_crf([image], [energies[:, order]], compat=compat)
        torch.testing.assert_close(swapped, result[:, order], rtol=0, atol=1e-9)


def test_an_energy_common_to_all_labels_changes_nothing() -> None:
    image, _ = scene(16, 16)
    energies = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (result,), (shifted,) = dense_crf([image], [energies]), dense_crf([image], [energies + energies[:, :1] * 3])
    torch.testing.assert_close(shifted, result, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "parameters", [CRFParameters(gaussian_weight=0.0, bilateral_weight=0.0), CRFParameters(iterations=0)]
)
def test_without_weights_or_iterations_the_unary_decides(parameters: CRFParameters) -> None:
    image, _ = scene(10, 12)
    energies = torch.randn(2, 4, 10, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(
        dense_crf([image], [energies], parameters)[0], torch.softmax(-energies, dim=1), rtol=0, atol=1e-15
    )


def test_the_terms_add_up_and_bind_pixels_of_one_color_over_any_distance() -> None:
    image = torch.full((6, 40, 3), 30, dtype=torch.uint8)
    image[:, 20:] = 220
    energies = torch.zeros(1, 2, 6, 40, dtype=torch.float64)
    energies[0, 1, :, 0] = -4  # evidence for label 1 at the far left alone
    (result,) = dense_crf([image], [energies], CRFParameters(gaussian_weight=0.0, bilateral_sxy=50.0))
    assert float(result[0, 1, :, :20].min()) > 0.9
    assert float((result[0, 1, :, 20:] - 0.5).abs().max()) < 1e-6


def test_a_batch_of_sizes_and_counts_equals_its_images() -> None:
    scenes = [scene(20, 28, 1), scene(13, 9, 2), scene(24, 17, 3)]
    images = [image for image, _ in scenes]
    masks = [torch.cat([scenes[0][1], ~scenes[0][1]]), scenes[1][1][:0], scenes[2][1]]
    together = refine_crf(images, masks)
    for image, mask, result in zip(images, masks, together, strict=True):
        for k in range(len(mask)):
            (alone,) = refine_crf([image], [mask[k : k + 1]])
            torch.testing.assert_close(result.soft[k], alone.soft[0], rtol=0, atol=1e-5)
            assert torch.equal(result.masks[k], alone.masks[0])
    energies = [mask_energies(mask.double()) for mask in masks]
    for image, given, marginals in zip(images, energies, dense_crf(images, energies), strict=True):
        assert marginals.dtype == torch.float64
        torch.testing.assert_close(marginals, dense_crf([image], [given])[0], rtol=0, atol=1e-12)
    stacked = dense_crf(torch.stack([images[0]] * 2), torch.stack([energies[0]] * 2))
    torch.testing.assert_close(stacked[1], dense_crf(images[:1], energies[:1])[0], rtol=0, atol=1e-12)


def test_large_batches_are_processed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks = zip(*(scene(12, 12, seed) for seed in range(4)), strict=True)
    whole = refine_crf(images, masks)
    monkeypatch.setattr("eigenseg.segment.refine.base._PIXELS_AT_ONCE", 300)
    for first, second in zip(whole, refine_crf(images, masks), strict=True):
        torch.testing.assert_close(first.soft, second.soft, rtol=0, atol=1e-5)


def test_energies_of_masks_are_the_published_ones() -> None:
    mask = torch.tensor([[[0.0, 1.0, 0.25]]])
    hard = math.log(1 + math.exp(-1))  # -log softmax of the label that is set: p = 0.731
    energies = mask_energies(mask)
    assert energies[0, :, 0, 0].tolist() == pytest.approx([hard, hard + 1])
    assert energies[0, :, 0, 1].tolist() == pytest.approx([hard + 1, hard])
    assert float((energies[0, 1] - energies[0, 0])[0, 2]) == pytest.approx(0.5)
    clipped = mask_energies(mask, "probability", 0.01)
    assert clipped[0, :, 0, 0].tolist() == pytest.approx([-math.log(0.99), -math.log(0.01)])
    assert clipped[0, :, 0, 2].tolist() == pytest.approx([-math.log(0.75), -math.log(0.25)])
    assert torch.equal(mask_energies(mask > 0.5), mask_energies((mask > 0.5).float()))
    assert mask_energies(mask.double()).dtype == torch.float64


def test_object_is_where_its_marginal_is_larger_and_maskcuts_rule_follows() -> None:
    image, mask = scene(32, 40)
    masks = torch.cat([mask, mask.roll(16, 2), torch.zeros_like(mask)])
    (marginals,) = dense_crf([image], [mask_energies(masks)])
    labels = marginals.argmax(dim=1).bool()
    holed = labels.clone()
    for holes in (True, False):
        (result,) = refine_crf([image], [masks], holes=holes, min_iou=0.5)
        expected = fill_holes(holed) if holes else holed
        assert torch.equal(result.masks, expected)
        assert torch.equal(result.soft, marginals[:, 1])
        intersection, union = (expected & masks).flatten(1).sum(1), (expected | masks).flatten(1).sum(1)
        ious = [a / b if b else 1.0 for a, b in zip(intersection.tolist(), union.tolist(), strict=True)]
        assert result.iou.tolist() == pytest.approx(ious)
        assert result.kept.tolist() == [value >= 0.5 for value in ious]
        assert result.kept.tolist() == [True, False, True]  # empty before and after: nothing to reject
    (refined,) = DenseCRF(holes=False, min_iou=0.1).refine_masks([image], [masks])
    assert torch.equal(refined.masks, labels)
    assert refined.kept.tolist() == [value >= 0.1 for value in ious]


def test_holes_are_filled_after_the_crf_only_if_requested() -> None:
    image = torch.full((20, 20, 3), 200, dtype=torch.uint8)
    image[8:12, 8:12] = 20
    mask = torch.zeros(1, 20, 20)
    mask[:, 3:17, 3:17] = 1
    mask[:, 8:12, 8:12] = 0
    weak = CRFParameters(gaussian_weight=0.1, bilateral_weight=0.1)
    assert not refine_crf([image], [mask], weak, holes=False)[0].masks[0, 9, 9]
    assert refine_crf([image], [mask], weak, holes=True)[0].masks[0, 9, 9]


@pytest.mark.parametrize("size", [24, 60])
def test_a_square_is_refined_as_published_and_stretched_back(size: int) -> None:
    scenes = [scene(36, 50, 1), scene(50, 32, 2)]
    masks = [torch.cat([mask, ~mask]) for _, mask in scenes]
    given = refine_crf([image for image, _ in scenes], masks, size=size)
    for (image, _), before, result in zip(scenes, masks, given, strict=True):
        height, width = before.shape[1:]
        # Nearest by pixel centers, in fractions: Pillow's own rounds where a center falls onto a border of pixels.
        nearest = np.ix_(*([int(Fraction(2 * i + 1, 2 * size) * side) for i in range(size)] for side in (height, width)))
        small = np.array(Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.LANCZOS))
        assert result.soft.shape == before.shape
        for k in range(2):
            coarse = before[k].numpy()[nearest]
            (marginals,) = dense_crf([torch.from_numpy(small)], [mask_energies(torch.from_numpy(coarse)[None])])
            filled = ndimage.binary_fill_holes((marginals[0, 1] > marginals[0, 0]).numpy())
            gray = Image.fromarray(filled.astype(np.uint8) * 255)
            large = np.array(gray.resize((width, height), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(result.masks[k], large > large.max() / 2)
            union = int((result.masks[k] | before[k]).sum())
            assert float(result.iou[k]) == pytest.approx(int((result.masks[k] & before[k]).sum()) / union)
            assert bool(result.kept[k]) == (float(result.iou[k]) >= 0.5)
            whole = Image.fromarray(marginals[0, 1].numpy()).resize((width, height), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(result.soft[k], np.array(whole), atol=1e-4)


def test_a_square_of_no_mask_and_one_that_is_empty() -> None:
    image, mask = scene(20, 30)
    none, empty = refine_crf([image, image], [mask[:0], torch.zeros_like(mask)], size=16)
    assert none.masks.shape == none.soft.shape == (0, 20, 30)
    assert not empty.masks.any()
    with pytest.raises(ValueError, match="^size must be an integer of at least 1, got 0"):
        DenseCRF(size=0)


def test_a_coarse_mask_moves_to_the_edge_of_the_image() -> None:
    image, coarse = scene(60, 80, 5)
    annotation = (image[..., 0].float() > image[..., 0].float().mean())[None]
    for parameters in (MASKCUT, DEEP_SPECTRAL):
        (result,) = refine_crf([image], [coarse], parameters)
        wrong, before = (int((mask ^ annotation).sum()) for mask in (result.masks, coarse))
        assert wrong < before / 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"gaussian_weight": -1.0}, "^gaussian_weight must be 0 or a positive number, got -1.0"),
        ({"bilateral_weight": float("nan")}, "^bilateral_weight must be 0 or a positive number, got nan"),
        ({"gaussian_sxy": 0.0}, "^gaussian_sxy must be a positive number, got 0.0"),
        ({"bilateral_sxy": -3.0}, "^bilateral_sxy must be a positive number, got -3.0"),
        ({"bilateral_srgb": float("inf")}, "^bilateral_srgb must be a positive number, got inf"),
        ({"iterations": -1}, "^iterations must be 0 or more, got -1"),
        ({"unary": "hard"}, "^unary must be 'softmax' or 'probability', got 'hard'"),
        ({"floor": 0.0}, r"^floor must be in \(0, 0.5\), got 0.0; a probability of 0"),
        ({"floor": 0.5}, r"^floor must be in \(0, 0.5\), got 0.5"),
    ],
)
def test_parameters_out_of_range_are_rejected(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRFParameters(**option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"min_iou": -0.1}, r"^min_iou must be in \[0, 1\], got -0.1"),
        ({"compat": "exact"}, "^compat must be null or 'reference', got 'exact'"),
    ],
)
def test_options_out_of_range_are_rejected_at_construction(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseCRF(**option)  # type: ignore[arg-type]


def test_bad_energies_raise() -> None:
    image, _ = scene(4, 5)
    with pytest.raises(ValueError, match=r"^unary\[0\] must be \(n, L, 4, 5\) to fit its image, got shape \(2, 4, 5\)"):
        dense_crf([image], [torch.zeros(2, 4, 5)])
    with pytest.raises(ValueError, match=r"^unary must have the same number of labels .* at least 2, got \[1\]"):
        dense_crf([image], [torch.zeros(1, 1, 4, 5)])
    with pytest.raises(ValueError, match=r"^unary must have the same number of labels .* got \[2, 3\]"):
        dense_crf([image, image], [torch.zeros(1, 2, 4, 5), torch.zeros(1, 3, 4, 5)])
    with pytest.raises(ValueError, match=r"^unary\[0\] holds values that are not finite"):
        dense_crf([image], [torch.full((1, 2, 4, 5), torch.inf)])
    with pytest.raises(TypeError, match=r"^unary\[0\] must be a bool or floating tensor, got torch.int64"):
        dense_crf([image], [torch.zeros(1, 2, 4, 5, dtype=torch.long)])
    with pytest.raises(ValueError, match="^compat must be null"):
        dense_crf([image], [torch.zeros(1, 2, 4, 5)], compat="lattice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^min_iou must be in \[0, 1\], got 2"):
        refine_crf([image], [torch.zeros(1, 4, 5)], min_iou=2)
    with pytest.raises(ValueError, match="too fine; increase the sigmas"):
        dense_crf([image], [torch.zeros(1, 2, 4, 5)], CRFParameters(bilateral_srgb=1e-4, bilateral_sxy=1e-4))
