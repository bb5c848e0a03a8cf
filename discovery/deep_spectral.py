"""Deep Spectral localisation: the object that the second eigenvector of an image shows.

Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022. Data flow: tokens (and colours) -> ``eigensegments.py`` -> positive
side of the second eigenvector -> largest component -> box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from eigenseg.data import FeatureGrid, Instances, Preprocess
from eigenseg.data.geometry import Size
from eigenseg.discovery.eigensegments import (
    Eigensegments,
    Laplacian,
    check_graph,
    colour_affinity,
    deep_spectral_affinity,
    eigensegments,
    majority_sign,
)
from eigenseg.discovery.partition import mask_boxes
from eigenseg.discovery.spectral import NcutSolver, Status, build_affinity, graphs_at_once, normalized_cut, solve_ncut

__all__ = [
    "DeepSpectral",
    "EigenObjects",
    "Eigensegments",
    "Located",
    "colour_affinity",
    "deep_spectral_affinity",
    "eigensegments",
    "largest_component",
    "localise",
    "majority_sign",
]

_EIGHT_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
_EIGHT_NEIGHBOURS[1] = True  # images never touch each other: one labelling call serves the whole batch


class Located(NamedTuple):
    """One object per image, in cells of the eigenvector's grid."""

    mask: Tensor  # (B, gh, gw) bool, the largest component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    foreground: Tensor  # (B, gh, gw) bool, the whole side that it was taken from


def localise(eigenvector: Tensor, grid: Size, compat: Literal["reference"] | None = None) -> Located:
    """Object of an eigenvector: x > 0, its complement where that is more than half, then the largest 8-connected component.

    The threshold is 0, not the mean, which makes it another rule than TokenCut's. Of equally large components the one with
    the lowest index is taken.

    Args:
        eigenvector: (B, N) real, the second of each image (``eigensegments(...).eigenvectors[:, :, 1]``), any scale.
        grid: (gh, gw) with gh * gw = N.
        compat: None: a vector of one sign separates nothing, so there is no object. ``"reference"``: it gives the whole
            grid, as published.

    Raises:
        ValueError: if the grid does not hold N cells or an entry is not finite.
    """
    side = positive_side(eigenvector, grid)
    covered = side.flatten(1).sum(dim=1)
    side = torch.where((2 * covered > eigenvector.shape[1])[:, None, None], ~side, side)
    none = (covered == 0) | (covered == eigenvector.shape[1])
    side = torch.where(none[:, None, None], compat == "reference", side)
    mask = largest_component(side)
    return Located(mask, mask_boxes(mask), side)


def positive_side(eigenvector: Tensor, grid: Size) -> Tensor:
    """Where an eigenvector is above 0.

    Args:
        eigenvector: (B, N) real.
        grid: (gh, gw) with gh * gw = N.

    Returns:
        (B, gh, gw) bool.

    Raises:
        ValueError: if the grid does not hold N cells or an entry is not finite.
    """
    if eigenvector.ndim != 2 or eigenvector.shape[1] != grid[0] * grid[1]:
        shape = tuple(eigenvector.shape)
        raise ValueError(f"eigenvector must be (B, {grid[0] * grid[1]}) for a grid of {grid[0]}x{grid[1]}, got {shape}")
    if not torch.isfinite(eigenvector).all():
        raise ValueError("eigenvector has entries that are not finite")
    return (eigenvector > 0).reshape(-1, *grid)


def largest_component(masks: Tensor) -> Tensor:
    """Keep the largest 8-connected component, among equals the one with the lowest index; empty masks stay empty.

    Args:
        masks: (B, H, W) bool.

    Returns:
        (B, H, W) bool, on the masks' device.
    """
    labels, _ = ndimage.label(masks.cpu().numpy(), structure=_EIGHT_NEIGHBOURS)
    kept = np.zeros(labels.shape, dtype=bool)
    for one, out in zip(labels, kept, strict=True):
        names, first, sizes = np.unique(one, return_index=True, return_counts=True)
        parts = [(-size, start, name) for name, start, size in zip(names, first, sizes, strict=True) if name]
        if parts:
            out[:] = one == min(parts)[2]
    return torch.from_numpy(kept).to(masks.device)


class EigenObjects:
    """One object an image from its second eigenvector; who uses it says which mask that is.

    Args:
        select: eigenvector (B, N) and grid (gh, gw) to masks (B, gh, gw) bool; an empty one is no object.
        colour_weight, upsample, laplacian, solver: as in ``eigensegments``.

    Raises:
        ValueError: if a parameter is out of range.
    """

    def __init__(
        self,
        select: Callable[[Tensor, Size], Tensor],
        colour_weight: float,
        upsample: int,
        laplacian: Laplacian,
        solver: NcutSolver,
    ) -> None:
        check_graph(colour_weight, upsample, laplacian)
        if colour_weight and upsample > 1:
            raise ValueError(
                f"colour_weight={colour_weight:g} with upsample={upsample} needs colours of a finer grid than FeatureGrid "
                "holds; set one of them to its default, or call eigensegments with such colours"
            )
        self.select, self.colour_weight, self.upsample = select, colour_weight, upsample
        self.laplacian, self.solver = laplacian, solver
        solver(build_affinity(torch.eye(12)[None]), k=1)  # wrong options of a solver show here, not picture by picture

    def __call__(self, features: FeatureGrid) -> list[Instances]:
        """Find the object of every image of a batch."""
        patch = features.geometries[0].patch_size if len(features) else self.upsample
        if patch % self.upsample:
            raise ValueError(f"upsample={self.upsample} does not divide the patch of {patch} pixels into whole cells")
        if self.colour_weight and features.colours is None:
            raise ValueError("colour_weight above 0 needs FeatureGrid.colours; the Predictor fills it in (needs_colours)")
        if features.tokens.shape[1] * self.upsample**2 < 2:
            reason = "the image holds a single token, nothing can be cut; enlarge it with preprocess.resize"
            return [Instances.empty(geometry.image_size, reason) for geometry in features.geometries]
        # Weights are float64, where the graphs that the number is made for take a byte an entry.
        chunk = max(1, graphs_at_once(features.tokens.shape[1] * self.upsample**2) // 8)
        return [found for start in range(0, len(features), chunk) for found in self._cut(features[start : start + chunk])]

    def _cut(self, features: FeatureGrid) -> list[Instances]:
        colours = features.colours if self.colour_weight else None
        segments = eigensegments(
            features.tokens, features.grid, 2, colours, self.colour_weight, self.upsample, self.laplacian, self.solver
        )
        vectors = segments.eigenvectors[:, :, 1]
        has_cut = torch.tensor([status not in (Status.TRIVIAL, Status.FAILED) for status in segments.status])
        masks = self.select(vectors, segments.grid) & has_cut[:, None, None].to(vectors.device)
        values = normalized_cut(segments.affinity, vectors > 0)
        return [self._instances(segments, masks[i], float(values[i]), features, i) for i in range(len(features))]

    def _instances(
        self, segments: Eigensegments, cells: Tensor, cut_value: float, features: FeatureGrid, i: int
    ) -> Instances:
        coarse, status = features.geometries[i], segments.status[i]
        geometry = replace(coarse, patch_size=coarse.patch_size // self.upsample)
        ignored = int(segments.affinity.non_finite[i])
        metadata = {"geometry": geometry, "status": status.value, "non_finite_tokens": ignored}
        mask = geometry.masks_to_image(cells)
        if not mask.any():
            reason = "no object: all tokens look alike, the graph has no cut"
            if ignored == features.tokens.shape[1]:
                reason = "no object: no token has finite features; check the backbone's weights and precision"
            elif status is Status.FAILED:
                reason = "no object: the eigensolver did not converge; allow it more iterations or use another solver"
            elif status is not Status.TRIVIAL:
                reason = "no object: the eigenvector has one sign, or its object lies outside of the image"
            return Instances.empty(geometry.image_size, reason, **metadata)
        return Instances(
            masks=mask[None].cpu().numpy(),
            scores=np.array([max(0.0, 1 - cut_value)], dtype=np.float32),
            boxes=geometry.boxes_to_image(mask_boxes(cells[None])).cpu().numpy(),
            image_size=geometry.image_size,
            extras={
                "eigenvector": [segments.eigenvectors[i, :, 1].reshape(segments.grid).float().cpu().numpy()],
                "eigenvalue": [float(segments.eigenvalues[i, 1])],
                "gap": [float(segments.gap[i])],
                "cut_value": [cut_value],
                "status": [status.value],
            },
            metadata=metadata,
        )


class DeepSpectral:
    """Deep Spectral localisation as a method: one box and mask an image, in original pixels, or none with a reason.

    The score is max(0, 1 - NCut(A, B)) of the side x > 0, as in ``TokenCut``: it says how clean the cut is, not whether the
    side is an object. Extras: ``eigenvector`` (gh, gw) float32, ``eigenvalue`` (lambda_2, counting from 1), ``gap``
    (lambda_3 - lambda_2), ``cut_value``, ``status`` (``"degenerate"``: the cut is one of several equally good ones).

    Args:
        colour_weight, upsample, laplacian, solver: as in ``eigensegments``; colours do not go with ``upsample`` above 1.

    Raises:
        ValueError: if a parameter is out of range.
    """

    preprocess = Preprocess(mode="crop")
    needs_attention = False
    needs_colours: bool = False

    def __init__(
        self,
        colour_weight: float = 0.0,
        upsample: int = 1,
        laplacian: Laplacian = "generalized",
        solver: NcutSolver = solve_ncut,
    ) -> None:
        self._find = EigenObjects(_object_mask, colour_weight, upsample, laplacian, solver)
        self.colour_weight, self.upsample = colour_weight, upsample
        self.laplacian, self.solver = laplacian, solver
        self.needs_colours = colour_weight > 0

    def __call__(self, features: FeatureGrid) -> list[Instances]:
        """Find the object of every image of a batch."""
        return self._find(features)


def _object_mask(eigenvector: Tensor, grid: Size) -> Tensor:
    return localise(eigenvector, grid).mask
