"""The bilateral solver equals the published one to rounding and dense matrices at convergence, and has its invariants."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, strategies as st
from numpy.typing import NDArray
from torch import Tensor

from eigenseg.discovery.grid import largest_component
from eigenseg.segment.refine import BilateralParameters, BilateralSolver, CRFParameters, DenseCRF, bilateral_solve
from eigenseg.segment.refine.bilateral import bistochastize
from eigenseg.segment.refine.cleanup import fill_holes, published_component
from eigenseg.segment.refine.grid import BilateralGrid
from eigenseg.segment.refine.rounding import fused_multiply_add

CONVERGED = {"max_iterations": 3000, "tol": 1e-13}


def draw_image(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth color image with noise: (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))
    waves = [128 + 80 * np.sin((rows * a + columns * b) / 12 + c) for a, b, c in random.uniform(-2, 2, (3, 3))]
    return torch.from_numpy(
        (np.stack(waves, axis=-1) + random.normal(0, 6, (height, width, 3))).clip(0, 255).astype(np.uint8)
    )


def blocks(height: int, width: int, seed: int = 0) -> Tensor:
    """A random mask in blocks of 4 pixels: (1, H, W) bool."""
    coarse = torch.rand(1, -(-height // 4), -(-width // 4), generator=torch.Generator().manual_seed(seed)) < 0.4
    return coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]


def dense_solution(
    image: Tensor, target: Tensor, sigmas: tuple[float, float, float], lam: float, confidence: float
) -> NDArray[np.float64]:
    """The same system written out with dense matrices, cell by cell."""
    r, g, b = image.double().numpy().reshape(-1, 3).T
    y = r * 0.299 + g * 0.587 + b * 0.114
    u = r * -0.168736 + g * -0.331264 + b * 0.5 + 128
    v = r * 0.5 + g * -0.418688 + b * -0.081312 + 128
    rows, columns = (side.ravel() for side in np.indices(image.shape[:2]))
    spatial, luma, chroma = sigmas
    points = np.stack([columns / spatial, rows / spatial, y / luma, u / chroma, v / chroma], axis=1).astype(int)
    cells = {cell: i for i, cell in enumerate(sorted({tuple(point) for point in points.tolist()}))}
    splat = np.zeros((len(cells), len(points)))
    for pixel, point in enumerate(points.tolist()):
        splat[cells[tuple(point)], pixel] = 1
    where = np.array(list(cells))
    distance = np.abs(where[:, None] - where[None]).sum(axis=2)
    blur = 10 * np.eye(len(cells)) + (distance == 1)
    n, pixels = np.ones(len(cells)), splat.sum(axis=1)
    for _ in range(10):
        n = np.sqrt(n * pixels / (blur @ n))
    smoothness = np.diag(n * (blur @ n)) - np.diag(n) @ blur @ np.diag(n)
    matrix = lam * smoothness + confidence * np.diag(pixels)
    flat = target.double().numpy().ravel()
    return (splat.T @ np.linalg.solve(matrix, confidence * (splat @ flat))).reshape(target.shape)


@pytest.mark.parametrize("case", range(4))
def test_published_outputs_are_reproduced_to_rounding(case: int, test_data: Path) -> None:
    golden = np.load(test_data / "golden_reference" / "bilateral_solver.npz")
    image = torch.from_numpy(golden[f"image_{int(golden[f'image_index_{case}'])}"])
    target = torch.from_numpy(golden[f"target_{case}"]).bool()[None]
    sigmas = tuple(golden[f"sigmas_{case}"].tolist())
    (result,) = bilateral_solve([image], [target], BilateralParameters(*sigmas))
    np.testing.assert_allclose(result.soft[0], golden[f"soft_{case}"], rtol=0, atol=1e-12)
    assert result.cells == golden[f"vertices_{case}"]
    assert result.iterations.tolist() == [golden[f"cg_iterations_{case}"]]
    np.testing.assert_allclose(result.residual[0], golden[f"cg_relative_residual_{case}"], rtol=1e-11)
    n, m = bistochastize(BilateralGrid([image], *sigmas))
    np.testing.assert_allclose(n[:, 0], golden[f"bistochastic_n_{case}"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(float(m.sum()), golden[f"bistochastic_m_sum_{case}"], rtol=1e-13)
    for compat in (None, "reference"):
        (refined,) = BilateralSolver(BilateralParameters(*sigmas), compat=compat).refine_masks([image], [target])  # type: ignore[arg-type]
        np.testing.assert_array_equal(refined.masks[0], golden[f"binary_{case}"])


def published_cells(image: Tensor, sigma_luma: float, sigma_chroma: float) -> NDArray[np.int64]:
    """Cells (Y, U, V) of every pixel, (HW, 3): exact products and sums, rounded after each multiply-add."""
    table: dict[tuple[int, ...], list[int]] = {}
    for color in sorted({tuple(color) for color in image.reshape(-1, 3).tolist()}):
        cells = []
        for row, offset, sigma in (
            ((0.299, 0.587, 0.114), 0.0, sigma_luma),
            ((-0.168736, -0.331264, 0.5), 128.0, sigma_chroma),
            ((0.5, -0.418688, -0.081312), 128.0, sigma_chroma),
        ):
            total = 0.0
            for level, factor in zip(color, row, strict=True):
                total = float(Fraction(level) * Fraction(factor) + Fraction(total))  # rounds to nearest, ties to even
            cells.append(int((total + offset) / sigma))
        table[color] = cells
    return np.array([table[tuple(color)] for color in image.reshape(-1, 3).tolist()])


@pytest.mark.parametrize(("luma", "chroma"), [(16.0, 8.0), (4.0, 4.0), (8.0, 4.0), (1.0, 1.0)])
def test_grays_and_colors_fall_into_the_cells_of_the_published_multiply_adds(luma: float, chroma: float) -> None:
    grays = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 3)
    colors = torch.randint(0, 256, (512, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = torch.cat([grays, colors]).reshape(16, 48, 3).contiguous()
    expected = published_cells(image, luma, chroma)
    grid = BilateralGrid([image], 1e6, luma, chroma)  # one cell in x and y
    distinct, index = np.unique(expected[:, ::-1], axis=0, return_inverse=True)  # ordered by V, then U, then Y
    assert len(grid) == len(distinct)
    np.testing.assert_array_equal(grid.slice(torch.arange(len(grid))[:, None])[:, 0], index.ravel())


def test_grays_at_a_border_of_cells_fall_to_the_published_side() -> None:
    # The coefficients of Y sum to 1, so a gray is its own luma but for rounding, and these lie on a border of cells.
    levels = [84, 108, 124, 168, 188, 204, 216, 244, 248]
    image = torch.tensor(levels, dtype=torch.uint8)[None, :, None].expand(1, 9, 3).contiguous()
    published = published_cells(image, 4.0, 4.0)[:, 0]
    grid = BilateralGrid([image], 1e6, 4.0, 4.0)
    assert len(grid) == len(set(published))
    for k, level in enumerate(levels):  # with the next lower gray in one cell exactly where the published luma is below
        pair = torch.tensor([level - 1, level], dtype=torch.uint8)[None, :, None].expand(1, 2, 3).contiguous()
        assert (len(BilateralGrid([pair], 1e6, 4.0, 4.0)) == 1) == (published[k] < level / 4)


@given(st.floats(-255, 255), st.floats(-1, 1), st.floats(-300, 300))
def test_the_fused_multiply_add_rounds_once(x: float, factor: float, addend: float) -> None:
    assume(all(value == 0 or abs(value) > 1e-60 for value in (x, factor, addend)))
    result = fused_multiply_add(torch.tensor([x], dtype=torch.float64), factor, torch.tensor([addend], dtype=torch.float64))
    assert result.item() == float(Fraction(x) * Fraction(factor) + Fraction(addend))


@pytest.mark.parametrize("sigmas", [(16.0, 16.0, 8.0), (5.0, 9.5, 7.0)])
@pytest.mark.parametrize(("lam", "confidence"), [(256.0, 0.999), (3.0, 0.2)])
def test_a_converged_solution_equals_dense_matrices(
    sigmas: tuple[float, float, float], lam: float, confidence: float
) -> None:
    image, target = draw_image(32, 32), blocks(32, 32)
    (result,) = bilateral_solve([image], [target], BilateralParameters(*sigmas, lam, confidence, **CONVERGED))
    assert float(result.residual) < 1e-12
    np.testing.assert_allclose(result.soft, dense_solution(image, target, sigmas, lam, confidence), rtol=0, atol=1e-9)


def test_more_iterations_come_closer_until_the_tolerance_stops_them() -> None:
    image, target = draw_image(48, 48), blocks(48, 48)
    runs = [
        bilateral_solve([image], [target], BilateralParameters(max_iterations=count, tol=1e-6))[0]
        for count in (0, 5, 25, 1000)
    ]
    residuals = [float(run.residual) for run in runs]
    assert residuals == sorted(residuals, reverse=True)
    assert [int(run.iterations) for run in runs[:3]] == [0, 5, 25]
    assert 25 < int(runs[3].iterations) < 1000
    assert (
        residuals[3]
        < 1e-6
        <= float(
            bilateral_solve([image], [target], BilateralParameters(max_iterations=int(runs[3].iterations) - 1, tol=0.0))[
                0
            ].residual
        )
    )


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_target_stays_as_it_is(value: float) -> None:
    (result,) = bilateral_solve([draw_image(40, 30)], [torch.full((1, 40, 30), value, dtype=torch.float64)])
    np.testing.assert_allclose(result.soft, value, rtol=0, atol=1e-12)
    assert result.iterations.tolist() == [0]
    assert float(result.residual) < 1e-12


def test_a_converged_solution_stays_between_the_targets_extremes() -> None:
    target = blocks(40, 40).double() * 1.5 - 0.25
    (result,) = bilateral_solve([draw_image(40, 40)], [target], BilateralParameters(**CONVERGED))
    assert -0.25 - 1e-9 <= float(result.soft.min()) < float(result.soft.max()) <= 1.25 + 1e-9


def test_scaling_shifting_and_swapping_the_target_does_so_to_the_output() -> None:
    # Start and steps are linear in the target, and a constant leaves no residual; the tolerance is off, as it is relative.
    image, target = draw_image(48, 40), blocks(48, 40).double()
    soft, scaled, swapped = (
        bilateral_solve([image], [given], BilateralParameters(tol=0.0))[0].soft
        for given in (target, 3 * target - 7, 1 - target)
    )
    torch.testing.assert_close(scaled, 3 * soft - 7, rtol=0, atol=1e-10)
    torch.testing.assert_close(swapped, 1 - soft, rtol=0, atol=1e-11)


def test_only_the_ratio_of_smoothness_and_confidence_counts() -> None:
    image, target = draw_image(48, 40), blocks(48, 40)
    first, second = (
        bilateral_solve([image], [target], BilateralParameters(lam=64 * a, confidence=a))[0].soft for a in (1.0, 0.25)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-11)


def test_transposing_or_mirroring_whole_cells_does_so_to_the_output() -> None:
    image, target = draw_image(48, 64), blocks(48, 64)
    soft = bilateral_solve([image], [target])[0].soft
    turned = bilateral_solve([image.transpose(0, 1)], [target.mT])[0].soft
    mirrored = bilateral_solve([image.flip(1)], [target.flip(2)])[0].soft
    torch.testing.assert_close(turned, soft.mT, rtol=0, atol=1e-11)
    torch.testing.assert_close(mirrored, soft.flip(2), rtol=0, atol=1e-11)


def test_doubled_pixels_on_doubled_cells_change_nothing() -> None:
    # Every cell holds four times the pixels: n doubles in every round, and the whole system is four times as large.
    image, target = draw_image(40, 48), blocks(40, 48)
    soft = bilateral_solve([image], [target])[0].soft
    image, target = (side.repeat_interleave(2, a).repeat_interleave(2, a + 1) for a, side in ((0, image), (1, target)))
    doubled = bilateral_solve([image], [target], BilateralParameters(sigma_spatial=32.0))[0].soft
    torch.testing.assert_close(doubled[:, ::2, ::2], soft, rtol=0, atol=1e-11)
    assert torch.equal(doubled[:, 1::2, 1::2], doubled[:, ::2, ::2])


def test_a_batch_of_sizes_and_counts_equals_its_images_to_the_bit() -> None:
    images = [draw_image(40, 56, 1), draw_image(17, 23, 2), draw_image(64, 33, 3)]
    targets = [torch.cat([blocks(40, 56, s) for s in (4, 5)]), blocks(17, 23, 6)[:0], blocks(64, 33, 7)]
    for tol in (1e-2, 1e-5):  # images stop after different numbers of iterations
        together = bilateral_solve(images, targets, BilateralParameters(tol=tol))
        for image, target, result in zip(images, targets, together, strict=True):
            for k in range(len(target)):
                (alone,) = bilateral_solve([image], [target[k : k + 1]], BilateralParameters(tol=tol))
                assert torch.equal(result.soft[k], alone.soft[0])
                assert torch.equal(result.iterations[k], alone.iterations[0])
                assert torch.equal(result.residual[k], alone.residual[0])
                assert result.cells == alone.cells
    stacked = torch.stack([images[0]] * 2)
    assert torch.equal(bilateral_solve(stacked, torch.stack([targets[0]] * 2))[1].soft, together[0].soft)


def test_a_converged_image_does_not_change_while_others_iterate() -> None:
    images = [draw_image(8, 8, 1), draw_image(64, 64, 2)]
    targets = [blocks(8, 8, 1).double() * 1e20, blocks(64, 64, 2).double()]  # on a scale where going on would overflow
    together = bilateral_solve(images, targets, BilateralParameters(max_iterations=500, tol=1e-3))
    alone = [
        bilateral_solve([a], [b], BilateralParameters(max_iterations=500, tol=1e-3))[0]
        for a, b in zip(images, targets, strict=True)
    ]
    assert int(alone[0].iterations) + 15 < int(alone[1].iterations) < 500
    assert float(alone[0].residual) > 1e-6
    for first, second in zip(together, alone, strict=True):
        assert torch.equal(first.soft, second.soft)
        assert torch.equal(first.iterations, second.iterations)


def test_large_batches_are_processed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = [draw_image(20, 20, s) for s in range(5)], [blocks(20, 20, s) for s in range(5)]
    whole = bilateral_solve(images, targets)
    monkeypatch.setattr("eigenseg.segment.refine.base._PIXELS_AT_ONCE", 900)
    for first, second in zip(whole, bilateral_solve(images, targets), strict=True):
        assert torch.equal(first.soft, second.soft)


def test_sides_beyond_the_published_hash_are_correct_and_rejected_in_reference_mode() -> None:
    # Published, the cell after x = 254 is x = 0 one row down: here the far right end must not move with the far left one.
    image = torch.full((2, 256, 3), 90, dtype=torch.uint8)
    target = torch.zeros(1, 2, 256)
    target[0, 1, :2] = 1
    options = {"sigma_spatial": 1.0, **CONVERGED}
    (result,) = bilateral_solve([image], [target], BilateralParameters(**options))  # type: ignore[arg-type]
    np.testing.assert_allclose(result.soft, dense_solution(image, target, (1.0, 16.0, 8.0), 256, 0.999), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="compat='reference' allows at most 254 cells along an axis"):
        bilateral_solve([image[:, :255]], [target[:, :, :255]], BilateralParameters(sigma_spatial=1.0), compat="reference")
    bilateral_solve([image[:, :254]], [target[:, :, :254]], BilateralParameters(sigma_spatial=1.0), compat="reference")


def test_hard_masks_are_the_soft_map_above_half_filled_and_one_component() -> None:
    image, target = draw_image(96, 96, 3), torch.cat([blocks(96, 96, 5), ~blocks(96, 96, 5)])
    (soft,) = bilateral_solve([image], [target], BilateralParameters(lam=1.0))
    filled = fill_holes(soft.soft > 0.5)
    expected = {
        ("largest", None): largest_component(filled),
        ("all", None): filled,
        ("largest", "reference"): published_component(filled),
    }
    assert len({tuple(mask.flatten().tolist()) for mask in expected.values()}) == 3
    for (keep, compat), masks in expected.items():
        (result,) = BilateralSolver(BilateralParameters(lam=1.0), keep=keep, compat=compat, min_iou=0.3).refine_masks(
            [image], [target]
        )  # type: ignore[arg-type]
        assert torch.equal(result.masks, masks)
        assert torch.equal(result.soft, soft.soft)
        assert torch.equal(result.details["residual"], soft.residual)
        assert torch.equal(result.details["iterations"], soft.iterations)
        intersection, union = (masks & target).flatten(1).sum(1), (masks | target).flatten(1).sum(1)
        assert torch.equal(result.iou, intersection.double() / union)
        assert torch.equal(result.kept, result.iou >= 0.3)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"sigma_spatial": 0.0}, "^sigma_spatial must be a positive number, got 0.0"),
        ({"sigma_luma": -1.0}, "^sigma_luma must be a positive number, got -1.0"),
        ({"sigma_chroma": float("nan")}, "^sigma_chroma must be a positive number, got nan"),
        ({"lam": 0.0}, "^lam must be a positive number, got 0.0"),
        ({"confidence": float("inf")}, "^confidence must be a positive number, got inf"),
        ({"max_iterations": -1}, "^max_iterations must be 0 or more, got -1"),
        ({"tol": 1.0}, r"^tol must be in \[0, 1\), got 1.0"),
    ],
)
def test_parameters_out_of_range_are_rejected(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BilateralParameters(**option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"compat": "published"}, "^compat must be null or 'reference', got 'published'"),
        ({"keep": "first"}, "^keep must be 'largest' or 'all', got 'first'"),
        ({"keep": "all", "compat": "reference"}, "^compat='reference' keeps one component"),
        ({"min_iou": 1.5}, r"^min_iou must be in \[0, 1\], got 1.5"),
    ],
)
def test_options_out_of_range_are_rejected_at_construction(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BilateralSolver(**option)  # type: ignore[arg-type]


def test_parameters_of_another_refiner_are_rejected() -> None:
    with pytest.raises(TypeError, match="^parameters must be BilateralParameters, got CRFParameters"):
        BilateralSolver(CRFParameters())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^parameters must be CRFParameters, got dict"):
        DenseCRF({"iterations": 5})  # type: ignore[arg-type]


def test_targets_may_have_any_finite_range_but_must_be_finite() -> None:
    image = draw_image(8, 8)
    assert float(bilateral_solve([image], [torch.full((1, 8, 8), 40.0)])[0].soft.mean()) == pytest.approx(40)
    with pytest.raises(ValueError, match=r"^targets\[0\] holds values that are not finite"):
        bilateral_solve([image], [torch.full((1, 8, 8), torch.inf)])
