"""The fast bilateral solver: edge-aware least squares on the bilateral grid (Barron and Poole, ECCV 2016).

The solution is close to the target, and smooth wherever the image is:

    min_x  lam/2 sum_ij W_ij (x_i - x_j)^2 + sum_i c (x_i - t_i)^2    (equation 1)

With W bistochastic and factored through the grid, x = slice(y), and y solves one sparse system over cells,

    (lam (Dm - Dn blur Dn) + diag(splat(c))) y = splat(c t)           (equations 7 and 8)

by conjugate gradients with the Jacobi preconditioner. TokenCut's saliency results come from 25 iterations, which leave 2 to
3 % of the residual: start, preconditioner and iterations affect the result, so they are the defaults here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from eigenseg.data.checks import Compat, check_choice, check_compat
from eigenseg.discovery.grid import largest_component
from eigenseg.segment.refine.apply import MaskRefiner
from eigenseg.segment.refine.base import (
    OnDisagreement,
    Refined,
    as_columns,
    check_disagreement,
    check_images,
    check_maps,
    check_masks,
    check_min_component,
    check_parameters,
    check_positive,
    chunks,
    compare,
    from_columns,
    hard,
)
from eigenseg.segment.refine.cleanup import fill_holes, published_component
from eigenseg.segment.refine.grid import AXES, BilateralGrid

_ROUNDS = 10  # of bistochastization, as published
_LEAST_DIAGONAL = 1e-5  # of the preconditioner, as published


@dataclass(frozen=True)
class BilateralParameters:
    """The grid's cells, the weights of the least squares problem, and when to stop solving it.

    Args:
        sigma_spatial: side of a grid cell in pixels.
        sigma_luma, sigma_chroma: side of a grid cell in levels of Y, and of U and V, of 256.
        lam: weight of smoothness.
        confidence: weight c of the target, the same at every pixel.
        max_iterations: of conjugate gradients. Published: 25.
        tol: relative residual to stop at. Published: 1e-5, never reached within 25.

    Raises:
        ValueError: if a number is out of range.
    """

    sigma_spatial: float = 16.0
    sigma_luma: float = 16.0
    sigma_chroma: float = 8.0
    lam: float = 256.0
    confidence: float = 0.999
    max_iterations: int = 25
    tol: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("sigma_spatial", "sigma_luma", "sigma_chroma", "lam", "confidence"):
            check_positive(**{name: getattr(self, name)})
        if self.max_iterations < 0:
            raise ValueError(f"max_iterations must be 0 or more, got {self.max_iterations}")
        if not 0 <= self.tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {self.tol}")


# TokenCut's values.
TOKENCUT = BilateralParameters()


class Smoothed(NamedTuple):
    """The solver's result for one image."""

    soft: Tensor  # (n, H, W) float64, about within the target's range; not clipped
    iterations: Tensor  # (n,) int64, of conjugate gradients
    residual: Tensor  # (n,) float64, |b - A y| / |b|
    cells: int  # occupied cells of the image's grid


def bilateral_solve(
    images: Sequence[Tensor],
    targets: Sequence[Tensor],
    parameters: BilateralParameters = TOKENCUT,
    compat: Compat = None,
) -> list[Smoothed]:
    """Smooth maps within images but not across their edges, in float64, as one system for the whole batch.

    Images may be of any size; the published hash has collisions from the 254th cell along an axis on (sides above
    254 x 16 = 4064 pixels as published), and ``compat="reference"`` raises for such images.

    Args:
        images: (H, W, 3) uint8 RGB each, any sizes, or one (B, H, W, 3) tensor.
        targets: for every image (n, H, W) bool or floating, any finite range; n may differ.
        parameters: see ``BilateralParameters``.
        compat: see above.

    Returns:
        One ``Smoothed`` per image.

    Raises:
        TypeError: if an image is not uint8, or a target neither bool nor floating.
        ValueError: if shapes, devices or parameters do not fit, or a value is not finite.

    Example:
        >>> image = torch.zeros(8, 8, 3, dtype=torch.uint8)
        >>> image[:, 4:] = 255  # black and white halves
        >>> target = torch.zeros(1, 8, 8)
        >>> target[0, :, 3:] = 1  # one column too many
        >>> (bilateral_solve([image], [target])[0].soft[0, 0] > 0.5).int().tolist()
        [0, 0, 0, 0, 1, 1, 1, 1]
    """
    check_images(images)
    check_maps(images, targets, "targets")
    check_compat(compat)
    results: list[Smoothed] = []
    for part in chunks(images):
        grid = BilateralGrid(images[part], parameters.sigma_spatial, parameters.sigma_luma, parameters.sigma_chroma)
        if compat and not grid.published:
            raise ValueError("compat='reference' allows at most 254 cells along an axis; omit it, or scale the image down")
        solution = solve_on_grid(grid, as_columns(targets[part], torch.float64), parameters)
        soft = from_columns(grid.slice(solution.cells), targets[part])
        results += [
            Smoothed(
                maps, solution.iterations[i, : len(maps)], solution.residual[i, : len(maps)], int(grid.cells_per_image[i])
            )
            for i, maps in enumerate(soft)
        ]
    return results


class Solution(NamedTuple):
    """Values on the grid's cells."""

    cells: Tensor  # (V, K) float64
    iterations: Tensor  # (B, K) int64
    residual: Tensor  # (B, K) float64


def bistochastize(grid: BilateralGrid) -> tuple[Tensor, Tensor]:
    """Diagonals n and m, (V, 1) each, with Dn blur Dn 1 = m, so that every row of lam (Dm - Dn blur Dn) sums to 0."""
    pixels = grid.pixels_per_cell[:, None].double()
    n = torch.ones_like(pixels)
    for _ in range(_ROUNDS):
        n = (n * pixels / grid.blur(n)).sqrt()
    return n, n * grid.blur(n)


def solve_on_grid(grid: BilateralGrid, targets: Tensor, parameters: BilateralParameters) -> Solution:
    """Preconditioned conjugate gradients, with separate step sizes for every image and target.

    Args:
        grid: of B images, V cells, P pixels.
        targets: (P, K) float64.
        parameters: of the solver; its sigmas are the grid's.
    """
    lam, confidence, tol = parameters.lam, parameters.confidence, parameters.tol
    n, m = bistochastize(grid)
    trust = confidence * grid.pixels_per_cell[:, None].double()
    right = grid.splat(confidence * targets)
    inverse = 1 / (lam * (m - 2 * AXES * n * n) + trust).clamp(min=_LEAST_DIAGONAL)

    def apply(x: Tensor) -> Tensor:
        return lam * (m * x - n * grid.blur(n * x)) + trust * x

    def norm(x: Tensor) -> Tensor:
        return grid.per_image(x * x).sqrt()

    y = right / trust  # each cell's mean target
    residual = right - apply(y)
    size = norm(right)
    direction = torch.zeros_like(y)
    previous = torch.ones_like(size)
    iterations = torch.zeros_like(size, dtype=torch.int64)
    for _ in range(parameters.max_iterations):
        scaled = inverse * residual
        product = grid.per_image(residual * scaled)
        running = (norm(residual) >= tol * size) & (product > 0)  # 0 only without a residual
        if not running.any():
            break
        direction = scaled + torch.where(running, product / previous, 0.0)[grid.image] * direction  # 0 at first
        image = apply(direction)
        step = torch.where(running, product / grid.per_image(direction * image), 0.0)[grid.image]
        y = y + step * direction
        residual = residual - step * image
        previous = torch.where(running, product, 1.0)
        iterations += running
    return Solution(y, iterations, torch.where(size > 0, norm(right - apply(y)) / size, 0.0))


class BilateralSolver(MaskRefiner):
    """The bilateral solver as a refiner. Hard masks are the soft map above 0.5, with holes filled and one component kept.

    Details of a result: ``iterations`` (n,) and ``residual`` (n,) of conjugate gradients. Published metrics use ``soft``.

    Args:
        parameters: of the solver; default: TokenCut's.
        keep: ``"largest"`` component of each mask, or ``"all"``.
        min_iou: minimum IoU of a hard mask with the one before. Published: 0.5.
        on_disagreement: what happens below: ``"keep"`` keeps the mask before, as published, with the solver's soft map;
            ``"drop"`` removes the instance.
        compat: ``"reference"`` keeps the component that the published code keeps (``published_component``), lets masks
            overlap, and raises for images on which the published hash has collisions.
        min_component: components of a refined mask with less than this fraction of its pixels are removed.

    Raises:
        ValueError: if a parameter is out of range, or ``compat`` comes with ``keep="all"``.
    """

    revision = 2

    def __init__(
        self,
        parameters: BilateralParameters = TOKENCUT,
        keep: Literal["largest", "all"] = "largest",
        min_iou: float = 0.5,
        on_disagreement: OnDisagreement = "keep",
        compat: Compat = None,
        min_component: float = 0.01,
    ) -> None:
        check_min_component(min_component)
        check_parameters(parameters, BilateralParameters)
        check_choice("keep", keep, ("largest", "all"))
        check_compat(compat)
        if compat and keep == "all":
            raise ValueError("compat='reference' keeps one component; use keep='largest' with it")
        check_disagreement(min_iou, on_disagreement)
        self.parameters = parameters
        self.keep, self.min_iou, self.on_disagreement, self.compat = keep, min_iou, on_disagreement, compat
        self.separate = compat is None
        self.min_component = 0.0 if compat else min_component

    def refine_masks(self, images: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Refined]:
        """Refine masks, see ``MaskRefiner``."""
        check_images(images)
        check_masks(images, masks)
        smoothed = bilateral_solve(images, masks, self.parameters, self.compat)
        return [self._postprocess(result, before) for result, before in zip(smoothed, masks, strict=True)]

    def _postprocess(self, result: Smoothed, before: Tensor) -> Refined:
        masks = fill_holes(hard(result.soft))
        if self.compat:
            masks = published_component(masks)
        elif self.keep == "largest":
            masks = largest_component(masks)
        details = {"iterations": result.iterations, "residual": result.residual}
        return compare(result.soft, masks, before, self.min_iou, details)
