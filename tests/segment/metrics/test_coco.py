"""AP and AR are those of COCO: published values, and pycocotools' values on random inputs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from metric_references import COCO_KEYS as KEYS, Objects, pycocotools_scores
from metric_samples import near, objects, rle_masks
from scipy import ndimage

from eigenseg.data import RleMasks
from eigenseg.data.datasets.base import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.rle import encode_segmentation
from eigenseg.segment.metrics import CocoAP

# pycocotools' result type does not support NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


PUBLISHED = {
    (
        "bbox",
        False,
    ): "0.504581 0.696973 0.572982 0.585626 0.519400 0.501398 0.386813 0.593680 0.595353 0.639811 0.566421 0.564291",
    (
        "segm",
        False,
    ): "0.319545 0.562288 0.298927 0.387374 0.310183 0.326934 0.268230 0.415449 0.416839 0.469450 0.376759 0.381472",
    (
        "bbox",
        True,
    ): "0.595238 0.880108 0.667898 0.593483 0.608930 0.603635 0.090482 0.506627 0.678072 0.665848 0.690000 0.690710",
    (
        "segm",
        True,
    ): "0.324852 0.688749 0.252481 0.352161 0.303206 0.333687 0.058795 0.355422 0.481807 0.504914 0.465833 0.451366",
}


def evaluate(items: Objects, **options: Any) -> dict[str, float | None]:
    metric = CocoAP(**options)
    for name, (prediction, annotation) in items.items():
        metric.update(name, prediction, annotation)
    return metric.compute()


@pytest.mark.parametrize(("regions", "agnostic"), PUBLISHED)
def test_the_official_fake_results_have_the_published_values(test_data: Path, regions: Any, agnostic: bool) -> None:
    folder = test_data / "coco_eval"
    content = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_fake{regions}100_results.json").read_text())
    classes = {number: i for i, number in enumerate(sorted(entry["id"] for entry in content["categories"]))}
    items: Objects = {}
    for image in content["images"]:
        size = (image["height"], image["width"])
        annotations, detections = (
            [e for e in entries if e["image_id"] == image["id"]] for entries in (content["annotations"], results)
        )
        labels = [
            np.array([classes[entry["category_id"]] for entry in entries], dtype=np.int64)
            for entries in (annotations, detections)
        ]
        masks = [
            RleMasks([encode_segmentation(e["segmentation"], size) for e in entries], size) if regions == "segm" else None
            for entries in (annotations, detections)
        ]
        scores = np.array([entry["score"] for entry in detections])
        boxes = corners(detections) if regions == "bbox" else np.zeros((len(detections), 4))
        areas, crowd = np.array([e["area"] for e in annotations]), np.array([e["iscrowd"] for e in annotations], dtype=bool)
        items[image["file_name"]] = (
            Detections(boxes, scores, labels[1], masks[1]),
            ObjectAnnotation(corners(annotations), labels[0], size, masks[0], areas, crowd, image_id=image["id"]),
        )
    assert sum(len(annotation) for _, annotation in items.values()) == 839
    values = evaluate(items, regions=regions, class_agnostic=agnostic)
    expected = dict(zip(KEYS, map(float, PUBLISHED[regions, agnostic].split()), strict=True))
    assert values == pytest.approx(expected, abs=1e-6)


def corners(entries: list[dict[str, Any]]) -> np.ndarray:
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


@pytest.mark.parametrize(
    ("difficult_as_crowd", "expected"),
    [
        (False, {"AP": 0.050399, "AP50": 0.126722, "AP75": 0.032080, "APm": 0.005541, "APl": 0.088130, "AR1": 0.106666}),
        (True, {"AP": 0.061085, "AP50": 0.157807, "AR1": 0.130949}),
    ],
)
def test_lost_on_voc07_has_the_known_ap(test_data: Path, difficult_as_crowd: bool, expected: dict[str, float]) -> None:
    images, predictions = (
        json.loads(gzip.decompress((test_data / "voc07" / f"{name}.json.gz").read_bytes()))
        for name in ("voc2007_trainval_boxes", "lost_vits16_predictions")
    )
    items: Objects = {}
    for image in images:
        boxes = np.array([entry["bbox_1based_xyxy"] for entry in image["objects"]]) - np.array([1, 1, 0, 0])
        flags = np.array([entry["difficult"] for entry in image["objects"]], dtype=bool)
        detection = Detections(np.array([predictions[image["file_name"]]]), np.ones(1))
        items[image["file_name"]] = (detection, ObjectAnnotation(boxes, difficult=flags))
    values = evaluate(items, regions="bbox", difficult_as_crowd=difficult_as_crowd)
    assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert values["AR100"] == values["AR1"]


def some_images(rng: np.random.Generator) -> Objects:
    """Three small images with ids in reverse order of their names; objects of all three sizes, equal scores, crowd."""
    items: Objects = {}
    for i, size in enumerate([(20, 30), (130, 140), (60, 50)]):
        annotation = objects(rng, size, int(rng.integers(0, 5)))
        numbered = ObjectAnnotation(
            annotation.boxes, annotation.labels, size, annotation.masks, annotation.areas, annotation.crowd, image_id=90 - i
        )
        items[f"image {i}"] = (near(rng, numbered, int(rng.integers(i == 0, 4))), numbered)
    return items


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["bbox", "segm"]), st.booleans())
def test_random_images_score_as_in_pycocotools(seed: int, regions: Any, agnostic: bool) -> None:
    items = some_images(np.random.default_rng(seed))
    values = evaluate(items, regions=regions, class_agnostic=agnostic)
    assert values == pytest.approx(pycocotools_scores(items, regions, agnostic), abs=1e-12)


def test_difficult_objects_as_crowd_score_as_crowd_in_pycocotools() -> None:
    rng = np.random.default_rng(5)
    annotation = objects(rng, (60, 60), 8, crowd=0.0)
    flagged = ObjectAnnotation(
        annotation.boxes,
        annotation.labels,
        (60, 60),
        annotation.masks,
        annotation.areas,
        difficult=np.arange(8) < 3,
        image_id=1,
    )
    crowded = ObjectAnnotation(
        annotation.boxes, annotation.labels, (60, 60), annotation.masks, annotation.areas, np.arange(8) < 3, image_id=1
    )
    detections = near(rng, annotation)
    expected = pycocotools_scores({"a": (detections, crowded)}, "segm", True)
    assert evaluate({"a": (detections, flagged)}, difficult_as_crowd=True) == pytest.approx(expected, abs=1e-12)
    as_objects = ObjectAnnotation(
        annotation.boxes, annotation.labels, (60, 60), annotation.masks, annotation.areas, image_id=1
    )
    expected = pycocotools_scores({"a": (detections, as_objects)}, "segm", True)
    assert evaluate({"a": (detections, flagged)}) == pytest.approx(expected, abs=1e-12)


def test_polygons_score_as_in_pycocotools() -> None:
    rng, size, items, outlines = np.random.default_rng(3), (40, 50), {}, {}
    for number in (1, 2, 3):
        centers = rng.uniform(8, 32, (4, 1, 2))
        angles = np.sort(rng.uniform(0, 2 * np.pi, (4, 7, 1)), axis=1)
        corner = centers + rng.uniform(3, 12, (4, 7, 1)) * np.concatenate([np.cos(angles), np.sin(angles)], axis=2)
        outlines[number] = [[polygon.ravel().tolist(), (polygon.ravel() + 6).tolist()] for polygon in corner]
        masks = RleMasks([encode_segmentation(outline, size) for outline in outlines[number]], size)
        boxes = np.concatenate([corner.min(axis=1), corner.max(axis=1) + 6], axis=1)
        areas = np.asarray(masks).sum(axis=(1, 2)).astype(np.float64)
        annotation = ObjectAnnotation(boxes, rng.integers(2, size=4), size, masks, areas, image_id=number)
        items[str(number)] = (near(rng, annotation, 2), annotation)
    for agnostic in (True, False):
        expected = pycocotools_scores(items, "segm", agnostic, outlines)
        assert expected["AP"] not in (0, 1)
        assert evaluate(items, class_agnostic=agnostic) == pytest.approx(expected, abs=1e-12)


THRESHOLDS = np.arange(50, 100, 5) / 100


def erosion_ring(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask within 2 % of the diagonal from its outside, which includes the image border (Cheng et al. 2021)."""
    width = max(1, round(0.02 * float(np.hypot(*mask.shape))))
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)
    ring: np.ndarray = mask & ~inner
    return ring


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 5, 30])
def test_boundary_ap_of_one_object_counts_the_thresholds_below_its_boundary_iou(shift: int) -> None:
    mask = np.zeros((1, 90, 120), dtype=bool)
    mask[0, 20:70, 30:120] = True
    moved = np.roll(mask, -shift, axis=2)
    rings = erosion_ring(mask[0]), erosion_ring(moved[0])
    iou = (rings[0] & rings[1]).sum() / (rings[0] | rings[1]).sum()
    expected = float((min(iou, (mask & moved).sum() / (mask | moved).sum()) >= THRESHOLDS).mean())
    box = np.array([[30.0, 20, 120, 70]])
    item = (
        Detections(box, np.ones(1), masks=rle_masks(moved)),
        ObjectAnnotation(box, image_size=(90, 120), masks=rle_masks(mask)),
    )
    values = evaluate({"a": item}, regions="boundary")
    assert values["AP"] == pytest.approx(expected, abs=1e-12)
    assert (values["AP"] == 1) == (shift == 0)


@pytest.mark.parametrize("regions", ["bbox", "segm", "boundary"])
def test_a_perfect_prediction_scores_1_and_no_prediction_at_all_scores_0(regions: Any) -> None:
    annotations = [objects(np.random.default_rng(i), (50, 60), 4, crowd=0.0) for i in range(2)]
    perfect = [Detections(t.boxes, np.ones(4), t.labels, t.masks) for t in annotations]
    for agnostic in (True, False):
        options = {"regions": regions, "class_agnostic": agnostic}
        values = evaluate({str(i): item for i, item in enumerate(zip(perfect, annotations, strict=True))}, **options)
        nothing = evaluate({str(i): (Detections.none(), t) for i, t in enumerate(annotations)}, **options)
        assert [values[key] for key in ("AP", "AP50", "AP75", "AR100")] == [1, 1, 1, 1]
        assert {key for key in KEYS if nothing[key] is None} == {key for key in KEYS if values[key] is None}
        assert {nothing[key] for key in KEYS} <= {0, None}
        assert nothing["AP"] == 0
