"""Scenes of textured shapes on clutter, as image files with pseudo-labels in COCO json, the way extract writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eigenseg.data import Instances
from eigenseg.data.datasets import CocoInstances
from eigenseg.data.results.pseudo_labels import pseudo_labels

SIDE = 96


def scene(seed: int, height: int = SIDE, width: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An image (H, W, 3) and the masks of its two shapes, a box on the left and a disc on the right."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))
    masks = np.zeros((2, height, width), dtype=bool)
    top, left = rng.integers(4, height // 4), rng.integers(2, width // 8)
    masks[0, top : top + rng.integers(height // 4, height // 2), left : left + rng.integers(width // 5, width // 3)] = True
    center = (rng.integers(height // 3, 2 * height // 3), rng.integers(5 * width // 8, 3 * width // 4))
    masks[1] = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < rng.integers(width // 8, width // 5) ** 2
    image = rng.integers(0, 60, (height, width, 3))
    for mask, color in zip(masks, ((230, 120, 40), (60, 200, 220)), strict=True):
        image[mask] = np.array(color) - 25 * ((rows + columns)[mask] // 3 % 2)[:, None]
    return image.astype(np.uint8), masks


def write_scenes(root: Path, count: int, scores: tuple[float, float] = (1.0, 0.5)) -> dict[str, Any]:
    """Images 0.png and so on in a folder, and their labels as json, which is returned, in ``labels.json`` beside it."""
    (root / "photos").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        image, masks = scene(i)
        Image.fromarray(image).save(root / "photos" / f"{i}.png")
        images.append({"id": i + 1, "file_name": f"{i}.png", "height": SIDE, "width": SIDE})
        for entry in Instances.from_masks(masks, scores).to_coco():
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, **entry})
    labels = pseudo_labels({"images": images, "annotations": annotations})
    (root / "labels.json").write_text(json.dumps(labels))
    return labels


def read_scenes(root: Path, labels: dict[str, Any] | None = None, masks: bool = True) -> CocoInstances:
    """The scenes as a dataset, with other labels if given."""
    path = root / "labels.json"
    if labels is not None:
        path = root / "other.json"
        path.write_text(json.dumps(labels))
    return CocoInstances(root / "photos", split=".", annotations=path, masks=masks)
