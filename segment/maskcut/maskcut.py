"""MaskCut: several objects per image by repeated normalized cuts (Wang et al., CutLER, CVPR 2023, section 3.2).

Data flow of a round: graphs without earlier objects -> second eigenvectors of all images at once, warm-started from the
previous round's Ritz block -> side, seed and component of each (``rounds.py``) -> is it an object (``coherence.py``) ->
tokens of masks leave the graph, finished images leave the batch. ``reference.py`` holds the published loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eigenseg.data.checks import Compat, check_choice, check_compat
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry, Size
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.discovery.coherence import Flaw, find_flaws, roughness
from eigenseg.discovery.grid import check_grid
from eigenseg.discovery.method import PADDING, Padding, in_chunks, seed_points, token_instances, valid_tokens
from eigenseg.discovery.reasons import ALL_ALIKE, single_tokens
from eigenseg.discovery.spectral import (
    NcutSolver,
    Status,
    build_affinity,
    check_features,
    check_graph_parameters,
    check_solver,
    graphs_per_batch,
    solve_ncut,
)
from eigenseg.segment.maskcut.reference import maskcut_reference
from eigenseg.segment.maskcut.rounds import Round, StopRule, cut_round, solve_warm, why_ended
from eigenseg.segment.maskcut.scores import SCORES, Score, score_round

_PADDED = "the objects lie in the padding"


@dataclass(frozen=True)
class CutRounds:
    """All objects of one image, in the order of the rounds, and why the search ended."""

    rounds: tuple[Round, ...]
    reason: str


def maskcut(
    tokens: Tensor,
    grid: Size,
    tau: float = 0.15,
    eps: float = 1e-5,
    stop: StopRule | None = None,
    valid: Tensor | None = None,
    solver: NcutSolver = solve_ncut,
    reject_flawed: bool = False,
) -> list[CutRounds]:
    """Find objects one after the other; the tokens of each leave the graph.

    Each round solves (D - W) x = lambda D x of the remaining tokens (W as in TokenCut), fixes the sign so that the
    largest magnitude is positive, thresholds at the mean, takes the other side if this one covers three of the image's
    corners, and keeps the component around the largest entry. Each image stops by its own
    ``StopRule``, and where the remaining tokens are noise or a gradient (``find_flaws``). A mask whose boundary separates
    tokens that are alike, such as one half of a wall, is no object either: its tokens leave the graph, but the search goes
    on, because an object behind it may come next.

    Args:
        tokens: (B, N, D) floating.
        grid: (gh, gw) with gh * gw = N.
        tau, eps: as in ``tokencut``. Published: 0.15 and 1e-5.
        stop: when an image is finished; None: the default ``StopRule``.
        valid: (B, N) bool, False removes a token from all graphs; None keeps all.
        solver: computes the eigenvectors.
        reject_flawed: reject masks in noise, gradients and plain backgrounds (``find_flaws``), for features that this was
            measured on. Published: False.

    Returns:
        One ``CutRounds`` per image.

    Raises:
        TypeError: if the tokens are not a tensor.
        ValueError: if shapes or parameters are out of range, or there are fewer than 2 tokens.

    Example:
        >>> tokens = torch.eye(2)[[0, 0, 0, 0, 1, 1, 0, 0, 0]][None]  # background and one object
        >>> [cut.mask.int().tolist() for cut in maskcut(tokens, (3, 3))[0].rounds]
        [[[0, 0, 0], [0, 1, 1], [0, 0, 0]]]
    """
    check_features(tokens)
    check_grid(tokens, grid, at_least=2)
    stop = stop or StopRule()
    finite = torch.isfinite(tokens.float().norm(dim=2))  # a token without features belongs to neither side
    graphs = build_affinity(tokens, tau=tau, eps=eps, valid=finite if valid is None else finite & valid)
    around = graphs.valid.reshape(-1, *grid).clone()  # what a mask is compared with: all but the objects
    rough = roughness(tokens, grid, around)
    rounds_of: list[list[Round]] = [[] for _ in range(len(tokens))]
    reasons = [f"max_masks={stop.max_masks} objects were found"] * len(tokens)
    images, ritz = list(range(len(tokens))), None
    for index in range(stop.max_masks):
        enough = (graphs.valid.sum(dim=1) >= 2).tolist()
        for i, can_cut in zip(images, enough, strict=True):
            reasons[i] = reasons[i] if can_cut else "fewer than two tokens are left"
        kept = [j for j, can_cut in enumerate(enough) if can_cut]
        images, graphs, ritz = [images[j] for j in kept], graphs.select(kept), None if ritz is None else ritz[kept]
        if not images:
            break
        ncut = solve_warm(solver, graphs, ritz)
        rounds = cut_round(graphs, ncut, grid, index)
        flaws: list[Flaw | None] = [None] * len(rounds)
        if reject_flawed:
            sides, found = (torch.stack([getattr(current, name) for current in rounds]) for name in ("side", "mask"))
            inside = graphs.valid.reshape(-1, *grid)
            flaws = find_flaws(tokens[images], sides, found, inside, around[images], rough[images])
        ended = [why_ended(current, rounds_of[i], stop) for i, current in zip(images, rounds, strict=True)]
        ended = [why or (flaw.value if flaw and flaw.ends else None) for why, flaw in zip(ended, flaws, strict=True)]
        kept = [j for j, why in enumerate(ended) if why is None]
        for i, current, why, flaw in zip(images, rounds, ended, flaws, strict=True):
            if why is not None:
                reasons[i] = why
            elif flaw is None:
                rounds_of[i].append(current)
                around[i] &= ~current.mask
        if not kept:
            break
        masks = torch.stack([rounds[j].mask.flatten() for j in kept])
        images, graphs = [images[j] for j in kept], graphs.select(kept).exclude(masks)
        ritz = None if ncut.ritz_block is None else ncut.ritz_block[kept]
    return [CutRounds(tuple(rounds), why) for rounds, why in zip(rounds_of, reasons, strict=True)]


class MaskCut:
    """MaskCut as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    Each instance's score ranks it among those of all images; it is no probability, see ``score``. Extras, in both loops:
    ``eigenvector`` (gh, gw) float32, object positive, ``eigenvalue``, ``gap``, ``cut_value``, ``seed`` (token index),
    ``seed_point`` (x, y in pixels), ``round`` (from 0), ``status``. Metadata: ``stopped``, why the search ended, and
    ``reason`` if there is no object.

    Args:
        tau: cosine above which two tokens have an edge. Published: 0.15.
        eps: weight of a missing edge. Published: 1e-5.
        solver: computes the eigenvectors.
        max_masks, min_area, max_overlap, max_eigenvalue: as in ``StopRule``.
        reject_flawed: as in ``maskcut``.
        score: what ranks the objects, in [0, 1], see ``score_round``: ``"combined"``, ``"gap"``, ``"cut"`` or ``"round"``.
        padding: ``"keep"`` keeps tokens with padding in the graph, ``"drop"`` removes them.
        compat: ``"reference"`` runs the published loop (``maskcut_reference``) for ``max_masks`` rounds and returns the
            masks that are not empty; their extras and scores are of the graph with the painted tokens. ``max_eigenvalue``,
            ``padding`` and ``reject_flawed`` are ignored. None: the rules above.

    Raises:
        ValueError: if a parameter is out of range.
    """

    preprocess = Preprocess(mode="square", resize=480)
    needs_attention = False
    revision = 2

    def __init__(
        self,
        tau: float = 0.15,
        eps: float = 1e-5,
        max_masks: int = 10,
        min_area: float = 0.01,
        max_overlap: float = 0.5,
        max_eigenvalue: float = 1.0,
        score: Score = "combined",
        padding: Padding = "keep",
        compat: Compat = None,
        solver: NcutSolver = solve_ncut,
        reject_flawed: bool = False,
    ) -> None:
        check_graph_parameters(tau, eps)
        StopRule(max_masks, min_area, max_overlap, max_eigenvalue)  # raises if a number is out of range
        check_choice("score", score, SCORES)
        check_choice("padding", padding, PADDING)
        check_compat(compat)
        check_solver(solver)
        self.tau, self.eps, self.padding, self.compat, self.solver = tau, eps, padding, compat, solver
        self.max_masks, self.min_area, self.score = max_masks, min_area, score
        self.max_overlap, self.max_eigenvalue = max_overlap, max_eigenvalue
        self.reject_flawed = reject_flawed

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the objects of every image of a batch."""
        tokens = features.tokens.shape[1]
        if tokens < 2:
            return single_tokens(features.geometries)
        cut = self._cut_as_published if self.compat else self._cut
        chunks = in_chunks(features, images, graphs_per_batch(tokens))
        return [instances for chunk, _ in chunks for instances in cut(chunk)]

    def _cut(self, features: FeatureGrid) -> list[Instances]:
        valid = valid_tokens(features, self.padding)
        stop = StopRule(self.max_masks, self.min_area, self.max_overlap, self.max_eigenvalue)
        graph = (features.tokens, features.grid, self.tau, self.eps)
        images = maskcut(*graph, stop, valid, self.solver, self.reject_flawed)
        return [
            self._instances(cuts.rounds, geometry, cuts.reason, otherwise=cuts.reason)
            for cuts, geometry in zip(images, features.geometries, strict=True)
        ]

    def _cut_as_published(self, features: FeatureGrid) -> list[Instances]:
        reference = maskcut_reference(
            features.tokens,
            features.grid,
            self.tau,
            self.eps,
            rounds=self.max_masks,
            max_overlap=self.max_overlap,
            min_area=self.min_area,
            solver=self.solver,
        )
        stopped = f"all {self.max_masks} rounds are done"
        return [
            self._instances([cut for cut in rounds if cut.mask.any()], geometry, stopped, _no_mask(rounds))
            for rounds, geometry in zip(reference.rounds, features.geometries, strict=True)
        ]

    def _instances(self, rounds: Sequence[Round], geometry: Geometry, stopped: str, otherwise: str) -> Instances:
        masks = torch.stack([cut.mask for cut in rounds]) if rounds else torch.zeros(0, *geometry.grid, dtype=torch.bool)
        extras: dict[str, list[Any]] = {
            "eigenvector": [cut.vector.float().cpu().numpy() for cut in rounds],
            "eigenvalue": [cut.eigenvalue for cut in rounds],
            "gap": [cut.gap for cut in rounds],
            "cut_value": [cut.cut_value for cut in rounds],
            "seed": [cut.seed for cut in rounds],
            "seed_point": seed_points(geometry, [cut.seed for cut in rounds]),
            "round": [cut.index for cut in rounds],
            "status": [cut.status.value for cut in rounds],
        }
        scores = [score_round(cut, self.score) for cut in rounds]
        reason = _PADDED if rounds else otherwise
        return token_instances(masks, scores, geometry, reason, extras, {"stopped": stopped})


def _no_mask(rounds: Sequence[Round]) -> str:
    """Why the published loop kept no mask."""
    return ALL_ALIKE if rounds and rounds[0].status is Status.TRIVIAL else "no round kept a mask"
