"""Deep Spectral Methods: the object in the second eigenvector of an image.

Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022, sections 4.1 and 4.2. Data flow: tokens (and colors) ->
``graph.py`` -> ``eigensegments.py`` -> side of the second eigenvector -> for localization its largest component and box,
for segmentation all of it and a soft mask. ``regions.py`` uses more eigenvectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenseg.data.checks import Compat, check_choice, check_compat
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry, Size
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess, grid_colors
from eigenseg.discovery.coherence import Flaw, find_flaws
from eigenseg.discovery.grid import largest_component, mask_boxes
from eigenseg.discovery.method import in_chunks, token_instances
from eigenseg.discovery.reasons import no_cut_reason, single_tokens
from eigenseg.discovery.spectral import NcutSolver, check_solver, graphs_per_batch, has_cut, normalized_cut, solve_ncut
from eigenseg.segment.deep_spectral.eigensegments import Eigensegments, eigensegments
from eigenseg.segment.deep_spectral.graph import Laplacian, check_graph

Task = Literal["localization", "segmentation"]


class Located(NamedTuple):
    """One object per image, in cells of the eigenvector's grid."""

    mask: Tensor  # (B, gh, gw) bool, the largest component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    foreground: Tensor  # (B, gh, gw) bool, the whole side that it was taken from


def localize(eigenvector: Tensor, grid: Size, compat: Compat = None) -> Located:
    """Object of an eigenvector: x > 0, or its complement if that is more than half, then the largest 8-connected component.

    The threshold is 0, not the mean as in TokenCut. Of equally large components the one with the lowest index is taken.

    Args:
        eigenvector: (B, N) real, the second of each image (``eigensegments(...).eigenvectors[:, :, 1]``), any scale.
        grid: (gh, gw) with gh * gw = N.
        compat: None: a vector of one sign gives no object. ``"reference"``: it gives the whole grid, as published.

    Raises:
        ValueError: if the grid does not match the N cells or an entry is not finite.

    Example:
        >>> localize(torch.tensor([[0.8, -0.1, -0.2, 0.9, -0.3, -0.1]]), (2, 3)).box.tolist()  # xyxy in cells
        [[0, 0, 1, 2]]
    """
    check_compat(compat)
    side = positive_side(eigenvector, grid)
    covered = side.flatten(1).sum(dim=1)
    side = torch.where((2 * covered > eigenvector.shape[1])[:, None, None], ~side, side)
    none = (covered == 0) | (covered == eigenvector.shape[1])
    side = torch.where(none[:, None, None], compat == "reference", side)
    mask = largest_component(side, connectivity=8)
    return Located(mask, mask_boxes(mask), side)


def positive_side(eigenvector: Tensor, grid: Size) -> Tensor:
    """Where an eigenvector is above 0.

    Args:
        eigenvector: (B, N) real.
        grid: (gh, gw) with gh * gw = N.

    Returns:
        (B, gh, gw) bool.

    Raises:
        ValueError: if the grid does not match the N cells or an entry is not finite.
    """
    if eigenvector.ndim != 2 or eigenvector.shape[1] != grid[0] * grid[1]:
        shape = tuple(eigenvector.shape)
        raise ValueError(f"eigenvector must be (B, {grid[0] * grid[1]}) for a grid of {grid[0]}x{grid[1]}, got {shape}")
    if not torch.isfinite(eigenvector).all():
        raise ValueError("eigenvector has entries that are not finite")
    return (eigenvector > 0).reshape(-1, *grid)


def saliency_map(eigenvector: Tensor, geometry: Geometry) -> NDArray[np.float32]:
    """An eigenvector as a soft mask: 0.5 + x / (2 max x) where x > 0, 0.5 - x / (2 min x) elsewhere, bilinear to pixels.

    The maximum becomes 1, the minimum 0, and the object lies above 0.5. Both sides are scaled separately: the smaller side
    of a cut has the larger entries, and a common scale would leave the other side close to 0.5.

    Args:
        eigenvector: (gh, gw) real.
        geometry: of that grid.

    Returns:
        (H, W) float32 in [0, 1]; 0 at pixels that were cropped.
    """
    exact = eigenvector.double()
    tiny = torch.finfo(torch.float64).tiny
    above, below = exact.amax().clamp(min=tiny), (-exact.amin()).clamp(min=tiny)
    soft = 0.5 + torch.where(exact > 0, exact / above, exact / below) / 2
    saliency: NDArray[np.float32] = geometry.maps_to_image(soft).clamp(0, 1).float().cpu().numpy()
    return saliency


class DeepSpectral:
    """Deep Spectral Methods as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    Each result holds one instance, or none with ``metadata["reason"]``. Its score is max(0, 1 - NCut) of the eigenvector's
    positive side in the graph that was cut. Extras: ``eigenvector`` (gh, gw) float32, ``eigenvalue``, ``gap``,
    ``cut_value``, ``status``. With ``task="segmentation"`` every result, an empty one too, has ``metadata["saliency"]``,
    (H, W) float32 in [0, 1], see ``saliency_map``; without an object it is 0.

    Args:
        task: ``"localization"``: the largest component of the smaller side, see ``localize``; ``"segmentation"``: all of
            the positive side; the published results are refined by a CRF.
        color_weight, upsample, laplacian, solver: as in ``eigensegments``.
        reject_flawed: no object in constants and noise (``find_flaws``), for features that this was measured on. Published:
            False, which finds one there.
            With ``color_weight`` or ``upsample`` nothing is rejected, because a cell is more than its token.

    Raises:
        ValueError: if a parameter is out of range.
    """

    revision = 2  # no object in constants and noise
    preprocess = Preprocess(mode="crop")
    needs_attention = False

    def __init__(
        self,
        task: Task = "localization",
        color_weight: float = 0.0,
        upsample: int = 1,
        laplacian: Laplacian = "generalized",
        solver: NcutSolver = solve_ncut,
        reject_flawed: bool = False,
    ) -> None:
        check_choice("task", task, ("localization", "segmentation"))
        check_graph(color_weight, upsample, laplacian)
        check_solver(solver)
        self.task, self.color_weight, self.upsample = task, color_weight, upsample
        self.laplacian, self.solver = laplacian, solver
        self.reject_flawed = reject_flawed and not color_weight and upsample == 1

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the object of every image of a batch.

        Raises:
            ValueError: if ``upsample`` does not divide the patch size.
        """
        patch = features.geometries[0].patch_size if len(features) else self.upsample
        if patch % self.upsample:
            raise ValueError(f"upsample={self.upsample} must divide the patch size {patch}")
        nodes = features.tokens.shape[1] * self.upsample**2
        if nodes < 2:
            results = single_tokens(features.geometries)
        else:
            # Weights are float64, while ``graphs_per_batch`` counts one byte per entry.
            chunks = in_chunks(features, images, max(1, graphs_per_batch(nodes) // 8))
            results = [instances for chunk in chunks for instances in self._cut(*chunk)]
        return results if self.task == "localization" else [_with_saliency(instances) for instances in results]

    def _cut(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        geometries = [
            replace(geometry, patch_size=geometry.patch_size // self.upsample) for geometry in features.geometries
        ]
        colors = None
        if self.color_weight:
            cells = [grid_colors(image, geometry) for image, geometry in zip(images, geometries, strict=True)]
            colors = torch.stack(cells).to(features.tokens.device)
        segments = eigensegments(
            features.tokens, features.grid, 2, colors, self.color_weight, self.upsample, self.laplacian, self.solver
        )
        vectors = segments.eigenvectors[:, :, 1]
        if self.task == "localization":
            masks = localize(vectors, segments.grid).mask
        else:
            masks = positive_side(vectors, segments.grid)
        tokens = features.tokens.shape[1]
        flaws: list[Flaw | None] = [None] * len(features)
        if self.reject_flawed:
            found = find_flaws(features.tokens, positive_side(vectors, segments.grid), masks)
            # Its side, thresholded at 0, reaches into the blur around an object: 4 of 20 discs would count as gradients.
            flaws = [None if flaw is Flaw.GRADIENT else flaw for flaw in found]
            masks = masks & torch.tensor([flaw is None for flaw in flaws], device=masks.device)[:, None, None]
        # A graph of colors has a cut even if no token has features.
        cuttable = has_cut(segments.status, masks.device) & (segments.affinity.non_finite < tokens)
        masks = masks & cuttable[:, None, None]
        values = normalized_cut(segments.affinity, vectors > 0)
        return [
            _instances(segments, masks, float(values[i]), geometries[i], tokens, i, flaws[i]) for i in range(len(features))
        ]


def _instances(
    segments: Eigensegments, masks: Tensor, cut_value: float, geometry: Geometry, tokens: int, i: int, flaw: Flaw | None
) -> Instances:
    status, non_finite = segments.status[i], int(segments.affinity.non_finite[i])
    otherwise = flaw.value if flaw else "the eigenvector has one sign, or its object lies outside the image"
    return token_instances(
        masks[i : i + 1],
        [max(0.0, 1 - cut_value)],
        geometry,
        reason=no_cut_reason(status, tokens, non_finite, otherwise),
        extras={
            "eigenvector": [segments.eigenvectors[i, :, 1].reshape(segments.grid).float().cpu().numpy()],
            "eigenvalue": [float(segments.eigenvalues[i, 1])],
            "gap": [float(segments.gap[i])],
            "cut_value": [cut_value],
            "status": [status.value],
        },
        metadata={"status": status.value, "non_finite_tokens": non_finite},
    )


def _with_saliency(instances: Instances) -> Instances:
    saliency = np.zeros(instances.image_size, dtype=np.float32)
    if len(instances):
        vector = torch.from_numpy(instances.extras["eigenvector"][0])
        saliency = saliency_map(vector, instances.metadata["geometry"])
    return replace(instances, metadata={**instances.metadata, "saliency": saliency})
