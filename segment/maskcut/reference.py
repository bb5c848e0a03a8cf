"""MaskCut's published loop, for comparison: painted tokens stay in the graph, and the eigenvector's sign matters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from eigenseg.data.geometry import Size
from eigenseg.discovery.grid import check_grid, component_of, corners_inside
from eigenseg.discovery.spectral import NcutSolver, build_affinity, check_features, has_cut, peak_index, solve_ncut
from eigenseg.segment.maskcut.rounds import CORNERS, Round, Side, rounds_of, solve_warm


class ReferenceMasks(NamedTuple):
    """Result of the published loop, in tokens.

    Args:
        masks: (B, R, gh, gw) bool, each without the tokens of earlier ones; all False where a round's mask was rejected.
        eigenvalues: (B, R) float64, lambda_2 of every round's graph.
        sign_matters: (B, R) bool, whether the opposite sign of that round's eigenvector gives another component.
        rounds: R of each image, their masks those of ``masks``; values are of the graph with the painted tokens.
    """

    masks: Tensor
    eigenvalues: Tensor
    sign_matters: Tensor
    rounds: tuple[tuple[Round, ...], ...]


def maskcut_reference(
    tokens: Tensor,
    grid: Size,
    tau: float = 0.15,
    eps: float = 1e-5,
    rounds: int = 3,
    signs: Tensor | None = None,
    max_overlap: float = 0.5,
    min_area: float = 0.01,
    solver: NcutSolver = solve_ncut,
) -> ReferenceMasks:
    """Run the published loop on a batch.

    It differs from ``maskcut`` in details of the authors' code that the paper does not mention: tokens of earlier objects
    are painted (their edges are cut, but they stay in the graph and in the mean, and fall on the object's side by
    construction); the corner rule uses the raw sign of the eigenvector; a mask is compared only with that of the previous
    round; a rejected mask counts as empty, so the same mask returns and is kept one round later; the number of rounds is
    fixed.

    Args:
        tokens: (B, N, D) floating.
        grid: (gh, gw).
        tau, eps: as in ``maskcut``.
        rounds: R.
        signs: (R, B) of 1 and -1, the sign of another eigensolver's vectors relative to ours (largest magnitude positive);
            None: ours.
        max_overlap: IoU with the mask of the previous round above which a mask is rejected.
        min_area: fraction of the grid up to which a mask is rejected, except in the first round.
        solver: computes the eigenvectors.

    Raises:
        TypeError: if the tokens are not a tensor.
        ValueError: if shapes or parameters are out of range.
    """
    check_features(tokens)
    check_grid(tokens, grid, at_least=2)
    batch, count = tokens.shape[:2]
    signs = torch.ones(rounds, batch, device=tokens.device) if signs is None else signs
    if signs.shape != (rounds, batch) or not bool((signs.abs() == 1).all()):
        raise ValueError(f"signs must be ({rounds}, {batch}) of 1 and -1, got {tuple(signs.shape)}")
    graphs = build_affinity(tokens, tau=tau, eps=eps)
    painted = torch.zeros(batch, count, dtype=torch.bool, device=tokens.device)
    previous = torch.zeros(batch, *grid, dtype=torch.bool, device=tokens.device)
    union, masks, values, matters, cuts = previous.clone(), [], [], [], []
    ritz: Tensor | None = None
    for index in range(rounds):
        painted |= previous.flatten(1)
        graph = graphs.mask(painted)
        ncut = solve_warm(solver, graph, ritz)
        ritz = ncut.ritz_block
        vectors = ncut.eigenvectors[:, :, 0] * signs[index][:, None].to(tokens.device)
        side = raw_side(vectors, grid)
        component, other = component_of(side.foreground, side.seed), raw_component(-vectors, grid)
        mask = component & has_cut(ncut.status, component.device)[:, None, None]
        if index:
            intersection = (mask & previous).flatten(1).sum(dim=1)
            iou = intersection / (mask | previous).flatten(1).sum(dim=1)
            rejected = (iou > max_overlap) | (mask.flatten(1).double().mean(dim=1) <= min_area)
            mask = mask & ~rejected[:, None, None]
        masks.append(mask & ~union)
        values.append(ncut.eigenvalues[:, 0])
        matters.append((component != other).flatten(1).any(dim=1))
        cuts.append(rounds_of(graph, ncut, side, masks[-1], index))
        union, previous = union | mask, mask
    return ReferenceMasks(
        masks=torch.stack(masks, dim=1),
        eigenvalues=torch.stack(values, dim=1),
        sign_matters=torch.stack(matters, dim=1),
        rounds=tuple(zip(*cuts, strict=True)),
    )


def raw_component(vectors: Tensor, grid: Size) -> Tensor:
    """The component around the seed of ``raw_side``: (B, N) float64 -> (B, gh, gw) bool."""
    side = raw_side(vectors, grid)
    return component_of(side.foreground, side.seed)


def raw_side(vectors: Tensor, grid: Size) -> Side:
    """Apply the published rule to a raw eigenvector; the result may depend on its sign.

    P = x > mean(x); P is complemented, and x negated, if it covers three corners or lacks the entry of largest magnitude;
    the seed is the largest entry.

    Args:
        vectors: (B, N) float64.
        grid: (gh, gw).
    """
    side = vectors > vectors.mean(dim=1, keepdim=True)
    peak = side.gather(1, peak_index(vectors)[:, None])[:, 0]
    reverse = (corners_inside(side.view(-1, *grid)) >= CORNERS) | ~peak
    side, oriented = side ^ reverse[:, None], torch.where(reverse[:, None], -vectors, vectors)
    seed = peak_index(oriented.clamp(min=0))
    return Side(side.view(-1, *grid), seed, reverse, oriented)
