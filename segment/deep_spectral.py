"""Deep Spectral segmentation: one object, or several regions, from the eigensegments of an image.

Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022. The object is the positive side of the second eigenvector.
Regions are clusters of tokens in the space of the nontrivial eigenvectors; ``deep_spectral_semantics.py`` names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

from eigenseg.data import FeatureGrid, Geometry, Instances, Preprocess
from eigenseg.data.geometry import Size
from eigenseg.discovery.deep_spectral import EigenObjects, positive_side
from eigenseg.discovery.eigensegments import Laplacian
from eigenseg.discovery.spectral import NcutSolver, solve_ncut

_STARTS = 10  # of k-means; the best of them counts, as in the scikit-learn of the paper's time


class DeepSpectralSegmentation:
    """One object an image: where the second eigenvector is positive, all of it, in original pixels.

    Score, extras and reasons are those of ``DeepSpectral``. Every result, an empty one too, has ``metadata["saliency"]``,
    (H, W) float32 in [0, 1], see ``saliency_map``; without an object it is 0. Published figures have a CRF after this.

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
        self._find = EigenObjects(positive_side, colour_weight, upsample, laplacian, solver)
        self.colour_weight, self.upsample = colour_weight, upsample
        self.laplacian, self.solver = laplacian, solver
        self.needs_colours = colour_weight > 0

    def __call__(self, features: FeatureGrid) -> list[Instances]:
        """Segment the object of every image of a batch."""
        return [_with_saliency(instances) for instances in self._find(features)]


def _with_saliency(instances: Instances) -> Instances:
    saliency = np.zeros(instances.image_size, dtype=np.float32)
    if len(instances):
        vector = torch.from_numpy(instances.extras["eigenvector"][0])
        saliency = saliency_map(vector, instances.metadata["geometry"])
    return replace(instances, metadata={**instances.metadata, "saliency": saliency})


def saliency_map(eigenvector: Tensor, geometry: Geometry) -> NDArray[np.float32]:
    """An eigenvector as a soft mask: 0.5 + x / (2 max x) where x > 0, 0.5 - x / (2 min x) elsewhere, bilinear to pixels.

    The peak is 1, what lies farthest on the other side is 0, and above 0.5 is the object. The sides are scaled apart: the
    smaller side of a cut has the larger entries, which would press the rest against 0.5.

    Args:
        eigenvector: (gh, gw) real.
        geometry: of that grid.

    Returns:
        (H, W) float32 in [0, 1]; 0 where a crop cut the image away.
    """
    exact = eigenvector.double()
    tiny = torch.finfo(torch.float64).tiny
    above, below = exact.amax().clamp(min=tiny), (-exact.amin()).clamp(min=tiny)
    soft = 0.5 + torch.where(exact > 0, exact / above, exact / below) / 2
    saliency: NDArray[np.float32] = geometry.maps_to_image(soft).clamp(0, 1).float().cpu().numpy()
    return saliency


def multi_region(
    eigenvectors: Tensor,
    eigenvalues: Tensor,
    grid: Size,
    n_clusters: int | Literal["adaptive"] = 15,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Regions of a batch of images: k-means of the tokens in the space of eigenvectors 1 and up, as they are.

    An image with fewer distinct tokens than clusters has a region for each of them.

    Args:
        eigenvectors: (B, N, K), the constant one first, K at least 2; from ``eigensegments``.
        eigenvalues: (B, K) ascending.
        grid: (gh, gw) with gh * gw = N.
        n_clusters: background included, 1 to N; ``"adaptive"``: as many as ``adaptive_clusters`` says. Published: 15.
        seed: of k-means; the published one has none.

    Returns:
        ``segments`` (B, gh, gw) int64: 0 for the background, which is the cluster with the most border tokens, 1 and up for
        the others in the order in which they appear, row by row.

    Raises:
        ValueError: if a shape or a number is out of range, or an eigenvector is not finite.
    """
    if (
        eigenvectors.ndim != 3
        or eigenvectors.shape[2] < 2
        or eigenvectors.shape[:2] != (len(eigenvalues), grid[0] * grid[1])
    ):
        raise ValueError(
            f"eigenvectors must be ({len(eigenvalues)}, {grid[0] * grid[1]}, K) with K at least 2 for a grid of "
            f"{grid[0]}x{grid[1]}, got {tuple(eigenvectors.shape)}"
        )
    if not torch.isfinite(eigenvectors).all():
        raise ValueError("eigenvectors have entries that are not finite")
    numbers = _numbers(n_clusters, eigenvalues, grid[0] * grid[1])
    segments = np.zeros((len(eigenvalues), *grid), dtype=np.int64)
    for i, (points, number) in enumerate(zip(eigenvectors[:, :, 1:].double().cpu().numpy(), numbers, strict=True)):
        distinct = len(np.unique(points, axis=0))
        means = KMeans(min(number, distinct), n_init=_STARTS, random_state=seed)
        segments[i] = background_first(means.fit_predict(points).reshape(grid))
    return segments


def _numbers(n_clusters: Any, eigenvalues: Tensor, tokens: int) -> Sequence[int]:
    if n_clusters == "adaptive":
        numbers: list[int] = adaptive_clusters(eigenvalues).tolist()
        return numbers
    if not isinstance(n_clusters, int) or not 1 <= n_clusters <= tokens:
        raise ValueError(f"n_clusters must be from 1 to {tokens}, the number of tokens, or 'adaptive', got {n_clusters!r}")
    return [n_clusters] * len(eigenvalues)


def adaptive_clusters(eigenvalues: Tensor) -> Tensor:
    """Eigenvalues below the largest gap, the gap after the trivial one left out; of equal gaps the first.

    Args:
        eigenvalues: (B, K) ascending, K at least 3.

    Returns:
        (B,) int64 from 2 to K - 1.

    Raises:
        ValueError: if there are fewer than 3.
    """
    if eigenvalues.ndim != 2 or eigenvalues.shape[1] < 3:
        raise ValueError(
            f"n_clusters='adaptive' needs (B, K) eigenvalues with K at least 3, got {tuple(eigenvalues.shape)}"
        )
    return eigenvalues.diff(dim=1)[:, 1:].argmax(dim=1) + 2


def background_first(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number segments anew: 0 is the one with the most border tokens, the others follow in row-major order.

    Every border token counts once, corners too. Of several with equally many the one that appears first is the background.

    Args:
        labels: (gh, gw) of any integers.
    """
    names, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    border = np.ones(labels.shape, dtype=bool)
    border[1:-1, 1:-1] = False
    touching = np.bincount(inverse.reshape(labels.shape)[border], minlength=len(names))
    background = min(range(len(names)), key=lambda i: (-touching[i], first[i]))
    order = sorted(range(len(names)), key=lambda i: (i != background, first[i]))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    renamed: NDArray[np.int64] = rank[inverse.reshape(labels.shape)]
    return renamed
