"""Parts of objects: neighboring tokens of a mask are merged greedily, most alike first, at falling thresholds.

The divide-and-conquer step of UnSAM (Wang et al., NeurIPS 2024, section 3.1) on the tokens that a method has anyway. Levels
are nested by construction: each one goes on merging where the one before stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import FOREGROUND, Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.discovery.grid import mask_boxes
from eigenseg.discovery.method import Method
from eigenseg.segment.parts.merging import Features, merge_levels


class Part(NamedTuple):
    """One node of an object's tree.

    Args:
        mask: (gh, gw) bool.
        parent: index of the part that holds it in the list it came with; -1: the object itself.
        level: index of the lowest threshold at which it still stands by itself.
        coherence: cosine at which its last two pieces were merged, the least within it; 1 for a part never merged.
    """

    mask: NDArray[np.bool_]
    parent: int
    level: int
    coherence: float


def part_tree(
    tokens: Features,
    inside: NDArray[np.bool_],
    thresholds: Sequence[float] = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
    min_tokens: int = 4,
    max_overlap: float = 0.9,
) -> list[Part]:
    """Parts of one object, larger ones first; every part lies within its parent.

    Args:
        tokens, inside, thresholds: as in ``merge_levels``. Published: 0.6, 0.5 ... 0.1.
        min_tokens: smaller clusters are left out. Published: 4.
        max_overlap: so is one whose IoU with the part or object that holds it is larger, because it says nothing new.
            Published: 0.9.
    """
    parts: list[Part] = []
    levels = merge_levels(tokens, inside, thresholds)
    for level in range(len(levels) - 1, -1, -1):
        labels, coherence = levels[level]
        for root in np.unique(labels[inside]).tolist():
            mask = labels == root
            if mask.sum() < min_tokens:
                continue
            parent = _smallest_around(mask, parts)
            around = parts[parent].mask if parent >= 0 else inside
            if mask.sum() <= max_overlap * around.sum():
                parts.append(Part(mask, parent, level, coherence.get(root, 1.0)))
    return parts


class PartHierarchy:
    """Objects of another method, and their parts.

    Every object is followed by its parts. Extras: ``parent``, the index of the instance that holds a part, -1 for an
    object; ``level``, the index of the threshold, -1 for an object; the score of a part is its object's score times the
    lowest cosine at which its pieces were merged, not below 0.

    Args:
        base: the method that finds objects; its masks are read back on the token grid (a token belongs to a mask that
            covers its center).
        thresholds, min_tokens, max_overlap: as in ``part_tree``.

    Raises:
        ValueError: if a parameter is out of range.
    """

    def __init__(
        self,
        base: Method,
        thresholds: Sequence[float] = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
        min_tokens: int = 4,
        max_overlap: float = 0.9,
    ) -> None:
        falling = [float(threshold) for threshold in thresholds]
        if not falling or falling != sorted(set(falling), reverse=True) or not -1 <= falling[-1] <= falling[0] <= 1:
            raise ValueError(f"thresholds must fall within [-1, 1], got {list(thresholds)}")
        if min_tokens < 1:
            raise ValueError(f"min_tokens must be at least 1, got {min_tokens}")
        if not 0 < max_overlap <= 1:
            raise ValueError(f"max_overlap must lie in (0, 1], got {max_overlap}")
        self.base, self.thresholds, self.min_tokens, self.max_overlap = base, falling, min_tokens, max_overlap
        self.preprocess: Preprocess = base.preprocess
        self.needs_attention: bool = base.needs_attention

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find objects and parts of every image of a batch."""
        tokens = features.tokens.double().cpu().numpy()
        return [
            self._divide(objects, points, geometry)
            for objects, points, geometry in zip(self.base(features, images), tokens, features.geometries, strict=True)
        ]

    def _divide(self, objects: Instances, tokens: Features, geometry: Geometry) -> Instances:
        if not len(objects):
            return objects
        centers = _token_centers(geometry)
        masks: list[NDArray[np.bool_]] = []
        scores: list[float] = []
        boxes: list[NDArray[np.float32]] = []
        parents: list[int] = []
        levels: list[int] = []
        for i in range(len(objects)):
            whole = np.asarray(objects.masks[i])
            covered = whole[centers[:, 0], centers[:, 1]] & np.isfinite(tokens).all(axis=1)
            inside = covered.reshape(geometry.grid)
            tree = part_tree(tokens, inside, self.thresholds, self.min_tokens, self.max_overlap)
            grids = (
                torch.from_numpy(np.stack([part.mask for part in tree])) if tree else torch.zeros(0, *geometry.grid).bool()
            )
            offset = len(masks)
            masks += [whole, *(geometry.masks_to_image(grids).numpy() & whole)]
            scores += [float(objects.scores[i]), *(float(objects.scores[i]) * max(0.0, p.coherence) for p in tree)]
            boxes += [objects.boxes[i], *geometry.boxes_to_image(mask_boxes(grids)).numpy()]
            parents += [-1, *(offset + 1 + part.parent for part in tree)]
            levels += [-1, *(part.level for part in tree)]
        return replace(
            objects,
            masks=np.stack(masks),
            scores=np.array(scores, dtype=np.float32),
            boxes=np.stack(boxes),
            labels=np.zeros(len(masks), dtype=np.int64),
            names=(FOREGROUND,),
            extras={"parent": parents, "level": levels},
        )


def _smallest_around(mask: NDArray[np.bool_], parts: Sequence[Part]) -> int:
    """The smallest of the parts that hold a mask, -1 if none does; levels are nested, so one token decides."""
    where = np.unravel_index(int(np.argmax(mask)), mask.shape)
    around = [i for i, part in enumerate(parts) if part.mask[where]]
    return min(around, key=lambda i: int(parts[i].mask.sum()), default=-1)


def _token_centers(geometry: Geometry) -> NDArray[np.int64]:
    """Pixel (row, column) at each token's center: (N, 2)."""
    count = geometry.grid[0] * geometry.grid[1]
    points = geometry.token_centers(torch.arange(count)).numpy()[:, ::-1]
    limits = np.array(geometry.image_size) - 1
    pixels: NDArray[np.int64] = np.minimum(np.floor(points), limits).astype(np.int64)
    return pixels
