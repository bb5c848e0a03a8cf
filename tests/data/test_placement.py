"""Boxes in another form than they are read in are noted, and published boxes are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenseg.data.datasets import CocoInstances, ObjectAnnotation
from eigenseg.data.placement import BoxPlacement, Placements
from eigenseg.data.predictions import open_predictions
from eigenseg.data.scoring import score_dataset
from eigenseg.discovery.metrics import CorLoc

SIZE = (375, 500)


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes xyxy anywhere in the image."""
    x, y = np.sort(rng.uniform(0, SIZE[1], (count, 2))), np.sort(rng.uniform(0, SIZE[0], (count, 2)))
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def notes(boxes: np.ndarray, xywh: bool) -> list[str]:
    """Notes on numbers of a file that are read in one of the two forms."""
    placement = BoxPlacement()
    for box in boxes:  # an image each
        placement.add(np.array([[*box[:2], *(box[:2] + box[2:])]] if xywh else [box]), SIZE)
    return placement.notes(xywh)


@pytest.mark.parametrize("seed", range(5))
def test_corners_in_a_file_of_widths_are_recognized(seed: int) -> None:
    corners = boxes_of(np.random.default_rng(seed), 40)
    (note,) = notes(corners, xywh=True)
    assert note.endswith("and all lie inside as x0, y0, x1, y1; COCO files hold x, y, width and height")
    widths = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    assert notes(widths, xywh=True) == []
    assert notes(corners, xywh=False) == []


@pytest.mark.parametrize("change", [lambda boxes: boxes * 2, lambda boxes: boxes + 600, lambda boxes: boxes - 600])
def test_boxes_outside_their_images_are_noted(change: Any) -> None:
    (note,) = notes(change(boxes_of(np.random.default_rng(1), 40)), xywh=False)
    assert (
        "of 40 boxes lie outside their images or reach far beyond them; they are read as x0, y0, x1, y1 in pixels" in note
    )


def test_fractions_are_noted_and_boxes_that_overshoot_a_little_are_not() -> None:
    boxes = boxes_of(np.random.default_rng(2), 40)
    (note,) = notes(boxes / [500, 375, 500, 375], xywh=False)
    assert note == "all 40 boxes end in the first pixel; they are read as x0, y0, x1, y1 in pixels, not in fractions"
    assert notes(boxes + np.array([-9, -9, 9, 9]), xywh=False) == []
    placement = BoxPlacement()
    placement.add(boxes + 600, None)
    assert (placement.boxes, placement.notes()) == (0, [])


class Photos:
    """Twelve images of one size with one object each."""

    title, classes, kind = "photos", ("object",), "objects"
    items = tuple(f"{i}.jpg" for i in range(12))

    def images(self, index: int) -> list[Any]:
        return []

    def annotation(self, index: int) -> ObjectAnnotation:
        return ObjectAnnotation(np.array([[10.0, 10, 60, 60]]), image_size=SIZE)


@pytest.mark.parametrize("processes", [1, 2])
def test_scoring_counts_the_boxes_in_one_process_and_in_several(tmp_path: Path, processes: int) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({name: [[600, 0, 700, 90], [0, 0, 9, 9]] for name in Photos.items}))
    placements = Placements()
    score_dataset(Photos(), open_predictions(path, Photos()), CorLoc(), processes=processes, placements=placements)  # type: ignore[arg-type]
    assert (placements.predicted.boxes, placements.predicted.off) == (24, 12)
    assert (placements.annotated.boxes, placements.annotated.off) == (12, 0)


def test_published_boxes_are_not_noted(test_data: Path) -> None:
    root = test_data / "coco_eval"
    dataset = CocoInstances(root, annotations=root / "instances_val2014_100.json", masks=False)
    predictions = open_predictions(root / "instances_val2014_fakebbox100_results.json", dataset)
    placements = Placements()
    score_dataset(dataset, predictions, CorLoc(), placements=placements)
    assert (placements.predicted.boxes > 700, placements.annotated.boxes) == (True, 839)
    assert placements.predicted.notes(xywh=True) == placements.annotated.notes(xywh=True) == []
