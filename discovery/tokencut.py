"""TokenCut: the salient object of an image by one normalized cut of its token graph (Wang et al., CVPR 2022).

Data flow: tokens -> binary cosine graph -> second eigenvector -> side of its peak -> component of the peak -> box.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eigenseg.data import FeatureGrid, Instances, Preprocess
from eigenseg.discovery.partition import bipartition, component_of, mask_boxes
from eigenseg.discovery.spectral import (
    NcutResult,
    NcutSolver,
    Status,
    build_affinity,
    check_features,
    check_graph_parameters,
    graphs_at_once,
    normalized_cut,
    solve_ncut,
)


class Cut(NamedTuple):
    """One object per image, in tokens."""

    mask: Tensor  # (B, gh, gw) bool, the seed's component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    seed: Tensor  # (B,) int64, row-major
    foreground: Tensor  # (B, gh, gw) bool, the whole side of the cut
    cut_value: Tensor  # (B,) float64, normalized cut of that side, in [0, 2]; infinite where there is no object
    ncut: NcutResult
    non_finite: Tensor  # (B,) int64, tokens ignored because their features were not finite


def tokencut(
    tokens: Tensor,
    grid: tuple[int, int],
    tau: float = 0.2,
    eps: float = 1e-5,
    valid: Tensor | None = None,
    solver: NcutSolver = solve_ncut,
) -> Cut:
    """Cut a batch of token grids into object and background.

    Solves (D - W) x = lambda D x with W_ij = 1 where cos(f_i, f_j) > tau, else eps (equations 3 and 5), thresholds the
    second smallest eigenvector at its mean, and keeps the 4-connected component around its largest magnitude.

    Args:
        tokens: (B, N, D) floating.
        grid: (gh, gw) with gh * gw = N.
        tau: similarity threshold, in [0, 1). Published: 0.2.
        eps: weight of a missing edge. Published: 1e-5.
        valid: (B, N) bool, False takes a token out of the graph; None keeps all.
        solver: who computes the eigenvector.

    Raises:
        TypeError: if the tokens are no tensor.
        ValueError: if shapes or parameters are out of range, or there are fewer than 2 tokens.
    """
    if grid[0] * grid[1] < 2:
        raise ValueError(f"a cut needs at least 2 tokens, got a grid of {grid[0]}x{grid[1]}")
    check_features(tokens)
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"grid {grid[0]}x{grid[1]} holds {grid[0] * grid[1]} tokens, got {tokens.shape[1]}")
    affinity = build_affinity(tokens, tau=tau, eps=eps, valid=valid)
    ncut = solver(affinity, k=1)
    foreground, seed = bipartition(ncut.eigenvectors[:, :, 0], grid, valid)
    has_cut = torch.tensor([status not in (Status.TRIVIAL, Status.FAILED) for status in ncut.status], device=tokens.device)
    foreground = foreground & has_cut[:, None, None]
    mask = component_of(foreground, seed)
    return Cut(
        mask=mask,
        box=mask_boxes(mask),
        seed=seed,
        foreground=foreground,
        cut_value=normalized_cut(affinity, foreground.flatten(1)),
        ncut=ncut,
        non_finite=affinity.non_finite,
    )


class TokenCut:
    """TokenCut as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    Each result holds one instance, or none with ``metadata["reason"]``. Its score is max(0, 1 - NCut(A, B)) of the side
    that was cut out: 1 for a side without ties to the rest, 0 for one whose ties are as many as in a graph without
    structure, where cut(A, B)/vol(A) = vol(B)/vol(V) and NCut is 1. It says how clean the cut is, not whether the side is
    an object: a plain sky scores high. Extras: ``eigenvector`` (gh, gw) float32, ``eigenvalue`` (lambda_2), ``gap``
    (lambda_3 - lambda_2), ``cut_value``, ``seed`` (token index), ``seed_point`` (x, y in pixels), ``status``
    (``"degenerate"``: the cut is one of several equally good ones).

    Args:
        tau, eps, solver: as in ``tokencut``.
        padding: ``"keep"`` leaves tokens that hold padding in the graph, as published; ``"drop"`` takes them out.

    Raises:
        ValueError: if a parameter is out of range.
    """

    preprocess = Preprocess(mode="pad")
    needs_attention = False

    def __init__(
        self,
        tau: float = 0.2,
        eps: float = 1e-5,
        padding: Literal["keep", "drop"] = "keep",
        solver: NcutSolver = solve_ncut,
    ) -> None:
        check_graph_parameters(tau, eps)
        if padding not in ("keep", "drop"):
            raise ValueError(f"padding must be 'keep' or 'drop', got {padding!r}")
        self.tau, self.eps, self.padding, self.solver = tau, eps, padding, solver
        solver(build_affinity(torch.eye(12)[None]), k=1)  # wrong options of a solver show here, not picture by picture

    def __call__(self, features: FeatureGrid) -> list[Instances]:
        """Find the object of every image of a batch."""
        if features.tokens.shape[1] < 2:
            reason = "the image holds a single token, nothing can be cut; enlarge it with preprocess.resize"
            return [Instances.empty(geometry.image_size, reason) for geometry in features.geometries]
        chunk = graphs_at_once(features.tokens.shape[1])
        return [found for start in range(0, len(features), chunk) for found in self._cut(features[start : start + chunk])]

    def _cut(self, features: FeatureGrid) -> list[Instances]:
        valid = ~features.padded_tokens() if self.padding == "drop" else None
        cut = tokencut(features.tokens, features.grid, self.tau, self.eps, valid, self.solver)
        return [_instances(cut, features, i) for i in range(len(features))]


def _instances(cut: Cut, features: FeatureGrid, i: int) -> Instances:
    geometry, status = features.geometries[i], cut.ncut.status[i]
    metadata = {"geometry": geometry, "status": status.value, "non_finite_tokens": int(cut.non_finite[i])}
    mask = geometry.masks_to_image(cut.mask[i])
    if not mask.any():
        reason = "no object: all tokens look alike, the graph has no cut (lambda_2 = 1)"
        if cut.non_finite[i] == features.tokens.shape[1]:
            reason = "no object: no token has finite features; check the backbone's weights and precision"
        elif status is Status.FAILED:
            reason = "no object: the eigensolver did not converge; allow it more iterations or use another solver"
        elif status is not Status.TRIVIAL:
            reason = "no object: the eigenvector is constant, or its object lies in the padding"
        return Instances.empty(geometry.image_size, reason, **metadata)
    cut_value = float(cut.cut_value[i])
    vector = cut.ncut.eigenvectors[i, :, 0].reshape(features.grid)
    return Instances(
        masks=mask[None].cpu().numpy(),
        scores=np.array([max(0.0, 1 - cut_value)], dtype=np.float32),
        boxes=geometry.boxes_to_image(cut.box[i : i + 1]).cpu().numpy(),
        image_size=geometry.image_size,
        extras={
            "eigenvector": [vector.float().cpu().numpy()],
            "eigenvalue": [float(cut.ncut.eigenvalues[i, 0])],
            "gap": [float(cut.ncut.gap[i])],
            "cut_value": [cut_value],
            "seed": [int(cut.seed[i])],
            "seed_point": [geometry.token_centres(cut.seed[i : i + 1])[0].tolist()],
            "status": [status.value],
        },
        metadata=metadata,
    )
