"""Parts of objects: neighboring tokens of a mask are merged greedily, most similar first, at decreasing thresholds.

The conquer step of UnSAM's divide-and-conquer (Wang et al., NeurIPS 2024, section 3.1) on the backbone's tokens. Levels are
nested by construction: each one continues merging from the previous one.
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
        parent: index of the smallest part around it, in the list returned with it; -1: the object itself.
        level: index of the lowest threshold at which it is still a cluster of its own.
        coherence: lowest cosine at which clusters within it were merged; 1 for a part never merged.
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
    """Parts of one object, coarse levels first; every part lies within its parent.

    Args:
        tokens, inside, thresholds: as in ``merge_levels``. Published: 0.6, 0.5 ... 0.1.
        min_tokens: smaller clusters are left out. Published: 4.
        max_overlap: so are clusters with a larger IoU with their parent, which they would nearly repeat. Published: 0.9.

    Example:
        >>> tokens = np.repeat(np.eye(2), 4, axis=0)  # the two halves of an object
        >>> [part.mask.astype(int).tolist() for part in part_tree(tokens, np.ones((2, 4), dtype=bool))]
        [[[1, 1, 1, 1], [0, 0, 0, 0]], [[0, 0, 0, 0], [1, 1, 1, 1]]]
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
    """Objects of another method, with their parts.

    Every object is followed by its parts. Extras: ``parent``, the index of a part's parent instance, -1 for an object;
    ``level``, the index of the threshold, -1 for an object. The score of a part is its object's score times its
    ``coherence``, at least 0.

    Args:
        base: the method that finds objects; its masks are sampled on the token grid (a token belongs to a mask that
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
        levels = [float(threshold) for threshold in thresholds]
        if not levels or levels != sorted(set(levels), reverse=True) or not -1 <= levels[-1] <= levels[0] <= 1:
            raise ValueError(f"thresholds must be decreasing and in [-1, 1], got {list(thresholds)}")
        if min_tokens < 1:
            raise ValueError(f"min_tokens must be at least 1, got {min_tokens}")
        if not 0 < max_overlap <= 1:
            raise ValueError(f"max_overlap must be in (0, 1], got {max_overlap}")
        self.base, self.thresholds, self.min_tokens, self.max_overlap = base, levels, min_tokens, max_overlap
        self.preprocess: Preprocess = base.preprocess
        self.needs_attention: bool = base.needs_attention

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find objects and parts of every image of a batch."""
        tokens = features.tokens.double().cpu().numpy()
        return [
            self._add_parts(objects, points, geometry)
            for objects, points, geometry in zip(self.base(features, images), tokens, features.geometries, strict=True)
        ]

    def _add_parts(self, objects: Instances, tokens: Features, geometry: Geometry) -> Instances:
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
            pixels = geometry.masks_to_image(grids).numpy() & whole
            # Parts that lie in the padding have no pixel, and then their children have none either.
            kept = np.flatnonzero(pixels.any(axis=(1, 2))).tolist()
            number = {-1: -1, **{old: new for new, old in enumerate(kept)}}
            parts, first = [tree[k] for k in kept], len(masks) + 1
            masks += [whole, *pixels[kept]]
            scores += [float(objects.scores[i]), *(float(objects.scores[i]) * max(0.0, part.coherence) for part in parts)]
            boxes += [objects.boxes[i], *geometry.boxes_to_image(mask_boxes(grids[kept])).numpy()]
            parents += [-1, *(first + number[part.parent] for part in parts)]
            levels += [-1, *(part.level for part in parts)]
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
    """Index of the smallest part around a mask, -1 if there is none; levels are nested, so testing one token suffices."""
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
