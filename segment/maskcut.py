"""MaskCut as a method: pictures to several objects each, a confidence with every one, and a stop by itself.

``cut_rounds.py`` holds the rounds, ``maskcut_reference.py`` the published loop.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from eigenseg.data import FeatureGrid, Geometry, Instances, Preprocess
from eigenseg.discovery.partition import mask_boxes
from eigenseg.discovery.spectral import NcutSolver, build_affinity, check_graph_parameters, graphs_at_once, solve_ncut
from eigenseg.segment.cut_rounds import Found, StopRule, maskcut
from eigenseg.segment.maskcut_reference import maskcut_reference

__all__ = ["MaskCut", "maskcut", "maskcut_reference"]


class MaskCut:
    """Several objects an image by repeated normalized cuts (CutLER, CVPR 2023, section 3.2), in original pixels.

    Each instance's score says how clean its cut was, not whether it is an object, see ``score``. Extras: ``eigenvector``
    (gh, gw) float32, ``eigenvalue``, ``gap``, ``cut_value``, ``seed`` (token index), ``seed_point`` (x, y in pixels),
    ``round``, ``status``. Metadata: ``stopped``, why the search ended, and ``reason`` where there is no object.

    Args:
        tau, eps, solver: as in ``maskcut``.
        max_masks, min_area, max_overlap, max_eigenvalue: as in ``StopRule``.
        score: ``"cut"``: max(0, 1 - NCut) of the side that the object was taken from, in the graph of its round;
            ``"round"``: 1 for the first object of an image, 1/2 for the second, 1/3...
        padding: ``"keep"`` leaves tokens that hold padding in the graph, ``"drop"`` takes them out.
        compat: ``"reference"`` runs the published loop (``maskcut_reference``) for ``max_masks`` rounds and returns the
            masks that are not empty; 1 - lambda_2 stands for 1 - NCut in their scores; ``max_eigenvalue`` and ``padding``
            have no part in it. None: the rules above.

    Raises:
        ValueError: if a parameter is out of range.
    """

    preprocess = Preprocess(mode="square", resize=480)
    needs_attention = False

    def __init__(
        self,
        tau: float = 0.15,
        eps: float = 1e-5,
        max_masks: int = 10,
        min_area: float = 0.01,
        max_overlap: float = 0.5,
        max_eigenvalue: float = 0.7,
        score: Literal["cut", "round"] = "cut",
        padding: Literal["keep", "drop"] = "keep",
        compat: Literal["reference"] | None = None,
        solver: NcutSolver = solve_ncut,
    ) -> None:
        check_graph_parameters(tau, eps)
        self.stop = StopRule(max_masks, min_area, max_overlap, max_eigenvalue)
        if score not in ("cut", "round"):
            raise ValueError(f"score must be 'cut' or 'round', got {score!r}")
        if padding not in ("keep", "drop"):
            raise ValueError(f"padding must be 'keep' or 'drop', got {padding!r}")
        if compat not in (None, "reference"):
            raise ValueError(f"compat must be null or 'reference', got {compat!r}")
        self.tau, self.eps, self.padding, self.compat, self.solver = tau, eps, padding, compat, solver
        self.max_masks, self.min_area, self.score = max_masks, min_area, score
        self.max_overlap, self.max_eigenvalue = max_overlap, max_eigenvalue
        solver(build_affinity(torch.eye(12)[None]), k=1)  # wrong options of a solver show here, not picture by picture

    def __call__(self, features: FeatureGrid) -> list[Instances]:
        """Find the objects of every image of a batch."""
        if features.tokens.shape[1] < 2:
            reason = "the image holds a single token, nothing can be cut; enlarge it with preprocess.resize"
            return [Instances.empty(geometry.image_size, reason) for geometry in features.geometries]
        chunk = graphs_at_once(features.tokens.shape[1])
        parts = (features[start : start + chunk] for start in range(0, len(features), chunk))
        cut = self._cut_as_published if self.compat else self._cut
        return [instances for part in parts for instances in cut(part)]

    def _cut(self, features: FeatureGrid) -> list[Instances]:
        valid = ~features.padded_tokens() if self.padding == "drop" else None
        found = maskcut(features.tokens, features.grid, self.tau, self.eps, self.stop, valid, self.solver)
        return [self._instances(one, geometry) for one, geometry in zip(found, features.geometries, strict=True)]

    def _cut_as_published(self, features: FeatureGrid) -> list[Instances]:
        found = maskcut_reference(
            features.tokens,
            features.grid,
            self.tau,
            self.eps,
            rounds=self.max_masks,
            max_overlap=self.max_overlap,
            min_area=self.min_area,
            solver=self.solver,
        )
        results = []
        for masks, values, geometry in zip(found.masks, found.eigenvalues.tolist(), features.geometries, strict=True):
            rounds = masks.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
            extras = {"round": rounds, "eigenvalue": [values[i] for i in rounds]}
            scores = self._scores(rounds, [values[i] for i in rounds])
            results.append(_assemble(masks[rounds], scores, geometry, extras, f"all {self.max_masks} rounds were made"))
        return results

    def _scores(self, rounds: list[int], cuts: list[float]) -> list[float]:
        if self.score == "round":
            return [1 / (index + 1) for index in rounds]
        return [max(0.0, 1 - cut) for cut in cuts]

    def _instances(self, found: Found, geometry: Geometry) -> Instances:
        rounds = found.rounds
        grid = (0, *geometry.grid)
        masks = torch.stack([one.mask for one in rounds]) if rounds else torch.zeros(grid, dtype=torch.bool)
        seeds = torch.tensor([one.seed for one in rounds], dtype=torch.int64)
        extras: dict[str, list[Any]] = {
            "eigenvector": [one.vector.float().cpu().numpy() for one in rounds],
            "eigenvalue": [one.eigenvalue for one in rounds],
            "gap": [one.gap for one in rounds],
            "cut_value": [one.cut_value for one in rounds],
            "seed": [one.seed for one in rounds],
            "seed_point": geometry.token_centres(seeds).tolist(),
            "round": [one.index for one in rounds],
            "status": [one.status.value for one in rounds],
        }
        return _assemble(masks, self._scores(extras["round"], extras["cut_value"]), geometry, extras, found.reason)


def _assemble(
    masks: torch.Tensor, scores: list[float], geometry: Geometry, extras: dict[str, list[Any]], stopped: str
) -> Instances:
    """Masks (n, gh, gw) in patches as instances in pixels; those that lie in the padding alone are left out."""
    pixels = geometry.masks_to_image(masks).cpu().numpy()
    kept = np.flatnonzero(pixels.any(axis=(1, 2))).tolist()
    metadata = {"geometry": geometry, "stopped": stopped}
    if not kept:
        return Instances.empty(geometry.image_size, f"no object: {stopped}", **metadata)
    return Instances(
        masks=pixels[kept],
        scores=np.array([scores[i] for i in kept], dtype=np.float32),
        boxes=geometry.boxes_to_image(mask_boxes(masks[kept])).cpu().numpy(),
        image_size=geometry.image_size,
        extras={name: [values[i] for i in kept] for name, values in extras.items()},
        metadata=metadata,
    )
