"""TokenCut: the salient object of an image by one normalized cut of its token graph (Wang et al., CVPR 2022).

Data flow: tokens -> binary cosine graph -> second eigenvector -> side of its peak -> component of the peak -> box; no
object where noise or a gradient was cut (``coherence.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import NEAREST, Nearest, Size
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.discovery.coherence import Flaw, find_flaws
from eigenseg.discovery.grid import check_grid, component_of, mask_boxes
from eigenseg.discovery.method import PADDING, Padding, in_chunks, seed_points, token_instances, valid_tokens
from eigenseg.discovery.reasons import no_cut_reason, single_tokens
from eigenseg.discovery.spectral import (
    NcutResult,
    NcutSolver,
    build_affinity,
    check_features,
    check_graph_parameters,
    check_solver,
    graphs_per_batch,
    has_cut,
    normalized_cut,
    orient,
    peak_index,
    solve_ncut,
)


class Bipartition(NamedTuple):
    """The two sides of a cut."""

    foreground: Tensor  # (B, gh, gw) bool
    seed: Tensor  # (B,) int64, row-major index of the foreground's peak


class Cut(NamedTuple):
    """One object per image, in tokens."""

    mask: Tensor  # (B, gh, gw) bool, the seed's component; empty where there is no object
    box: Tensor  # (B, 4) int64 xyxy half-open; all 0 where there is no object
    seed: Tensor  # (B,) int64, row-major
    foreground: Tensor  # (B, gh, gw) bool, the object's whole side of the cut
    cut_value: Tensor  # (B,) float64, normalized cut of that side, in [0, 2]; infinite where there is no object
    ncut: NcutResult
    non_finite: Tensor  # (B,) int64, tokens ignored because their features were not finite
    flaws: tuple[Flaw | None, ...]  # why the component that was cut was rejected


def tokencut(
    tokens: Tensor,
    grid: Size,
    tau: float = 0.2,
    eps: float = 1e-5,
    valid: Tensor | None = None,
    solver: NcutSolver = solve_ncut,
    reject_flawed: bool = False,
) -> Cut:
    """Cut a batch of token grids into object and background.

    Solves (D - W) x = lambda D x with W_ij = 1 where cos(f_i, f_j) > tau, else eps (equations 3 and 5), thresholds the
    second smallest eigenvector at its mean, and keeps the 4-connected component around its largest magnitude.

    Args:
        tokens: (B, N, D) floating.
        grid: (gh, gw) with gh * gw = N.
        tau: similarity threshold, in [0, 1). Published: 0.2.
        eps: weight of a missing edge. Published: 1e-5.
        valid: (B, N) bool, False removes a token from the graph; None keeps all.
        solver: computes the eigenvector.
        reject_flawed: no object in noise and gradients (``find_flaws``), for features that this was measured on. Published:
            False, which finds one there.

    Raises:
        TypeError: if the tokens are not a tensor.
        ValueError: if shapes or parameters are out of range, or there are fewer than 2 tokens.

    Example:
        >>> object_, background = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> tokens = torch.stack([background, object_, object_, background, background, background])[None]
        >>> tokencut(tokens, (2, 3)).box.tolist()  # xyxy in tokens
        [[1, 0, 3, 1]]
    """
    check_features(tokens)
    check_grid(tokens, grid, at_least=2)
    affinity = build_affinity(tokens, tau=tau, eps=eps, valid=valid)
    ncut = solver(affinity, k=1)
    foreground, seed = bipartition(ncut.eigenvectors[:, :, 0], grid, valid)
    foreground = foreground & has_cut(ncut.status, tokens.device)[:, None, None]
    mask = component_of(foreground, seed)
    flaws = find_flaws(tokens, foreground, mask, None if valid is None else valid.view(mask.shape))
    # A first cut without a boundary is never noise, and 1 of 36 objects in photographs that were cut correctly has none.
    flaws = [flaw if reject_flawed and flaw and flaw.ends else None for flaw in flaws]
    mask = mask & torch.tensor([flaw is None for flaw in flaws], device=mask.device)[:, None, None]
    return Cut(
        mask=mask,
        box=mask_boxes(mask),
        seed=seed,
        foreground=foreground,
        cut_value=normalized_cut(affinity, foreground.flatten(1)),
        ncut=ncut,
        non_finite=affinity.non_finite,
        flaws=tuple(flaws),
    )


def bipartition(eigenvector: Tensor, grid: Size, valid: Tensor | None = None) -> Bipartition:
    """Threshold at the mean; the side with the largest magnitude is the foreground.

    An eigenvector's sign is arbitrary, so it is fixed first: the entry of largest magnitude becomes positive. The result is
    therefore the same for ``x`` and ``-x``. Tokens exactly at the mean are background, so a constant vector has no object.

    Args:
        eigenvector: (B, N) real, one per image, any scale.
        grid: (gh, gw) with gh * gw = N.
        valid: (B, N) bool; False removes a token from the mean, the seed and the foreground.

    Raises:
        ValueError: if the grid does not match the N tokens or an entry is not finite.

    Example:
        >>> bipartition(torch.tensor([[0.9, -0.2, -0.1, -0.2]]), (2, 2)).foreground.int().tolist()
        [[[1, 0], [0, 0]]]
    """
    check_grid(eigenvector, grid)
    if not torch.isfinite(eigenvector).all():
        raise ValueError("eigenvector has entries that are not finite")
    if valid is None:
        valid = torch.ones_like(eigenvector, dtype=torch.bool)

    oriented = orient(torch.where(valid, eigenvector, 0.0))
    mean = oriented.sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True).clamp(min=1)
    foreground = (oriented > mean) & valid
    return Bipartition(foreground.view(-1, *grid), peak_index(oriented))


class TokenCut:
    """TokenCut as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    Each result holds one instance, or none with ``metadata["reason"]``. Its score is max(0, 1 - NCut(A, B)) of the
    foreground: 1 for a side without edges to the rest, 0 for one whose edges are as many as in a graph without
    structure, where cut(A, B)/vol(A) = vol(B)/vol(V) and NCut is 1. It says how clean the cut is, not whether the side is
    an object: a plain sky scores high. Extras: ``eigenvector`` (gh, gw) float32, ``eigenvalue`` (lambda_2), ``gap``
    (lambda_3 - lambda_2), ``cut_value``, ``seed`` (token index), ``seed_point`` (x, y in pixels), ``status``
    (``"degenerate"``: the cut is one of several equally good ones).

    Args:
        tau, eps, solver, reject_flawed: as in ``tokencut``.
        padding: ``"keep"`` keeps tokens with padding in the graph, as published; ``"drop"`` removes them.
        nearest: the token that a pixel of the mask takes: the one around its ``"center"`` or its upper left ``"corner"``,
            published for saliency; they differ where the image's size is no multiple of the grid's.

    Raises:
        ValueError: if a parameter is out of range.
    """

    revision = 2  # no object in noise and gradients
    preprocess = Preprocess(mode="pad")
    needs_attention = False

    def __init__(
        self,
        tau: float = 0.2,
        eps: float = 1e-5,
        padding: Padding = "keep",
        solver: NcutSolver = solve_ncut,
        nearest: Nearest = "center",
        reject_flawed: bool = False,
    ) -> None:
        check_graph_parameters(tau, eps)
        check_choice("padding", padding, PADDING)
        check_solver(solver)
        check_choice("nearest", nearest, NEAREST)
        self.tau, self.eps, self.padding, self.solver, self.nearest = tau, eps, padding, solver, nearest
        self.reject_flawed = reject_flawed

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the object of every image of a batch."""
        tokens = features.tokens.shape[1]
        if tokens < 2:
            return single_tokens(features.geometries)
        results = []
        for chunk, _ in in_chunks(features, images, graphs_per_batch(tokens)):
            valid = valid_tokens(chunk, self.padding)
            cut = tokencut(chunk.tokens, chunk.grid, self.tau, self.eps, valid, self.solver, self.reject_flawed)
            results += [_instances(cut, chunk, i, self.nearest) for i in range(len(chunk))]
        return results


def _instances(cut: Cut, features: FeatureGrid, i: int, nearest: Nearest) -> Instances:
    geometry, status, non_finite = features.geometries[i], cut.ncut.status[i], int(cut.non_finite[i])
    vector, cut_value, seed = cut.ncut.eigenvectors[i, :, 0], float(cut.cut_value[i]), int(cut.seed[i])
    flaw = cut.flaws[i]
    otherwise = flaw.value if flaw else "the eigenvector is constant, or its object lies in the padding"
    return token_instances(
        cut.mask[i : i + 1],
        [max(0.0, 1 - cut_value)],
        geometry,
        reason=no_cut_reason(status, len(vector), non_finite, otherwise),
        extras={
            "eigenvector": [vector.reshape(features.grid).float().cpu().numpy()],
            "eigenvalue": [float(cut.ncut.eigenvalues[i, 0])],
            "gap": [float(cut.ncut.gap[i])],
            "cut_value": [cut_value],
            "seed": [seed],
            "seed_point": seed_points(geometry, [seed]),
            "status": [status.value],
        },
        metadata={"status": status.value, "non_finite_tokens": non_finite},
        nearest=nearest,
    )
