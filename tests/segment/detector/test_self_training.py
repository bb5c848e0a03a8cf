"""The merge rule of self-training on hand-made json, and the order of the rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest

from eigenseg.data.rle import encode_masks
from eigenseg.segment.detector.self_training import merge_labels, self_train

Json = dict[str, Any]
HEIGHT, WIDTH = 6, 20


def strip(start: int, stop: int, score: float | None, image_id: int = 1) -> Json:
    """An object that fills columns ``start`` to ``stop`` of the third row."""
    mask = np.zeros((1, HEIGHT, WIDTH), dtype=bool)
    mask[0, 2, start:stop] = True
    entry: Json = {"image_id": image_id, "category_id": 1, "segmentation": dict(encode_masks(mask)[0])}
    return entry if score is None else {**entry, "score": score}


def coco(*annotations: Json, names: Mapping[int, str] | None = None, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Json:
    images = [
        {"id": number, "file_name": name, "height": size[0], "width": size[1]}
        for number, name in (names or {1: "a.png"}).items()
    ]
    numbered = [{"id": i, **entry} for i, entry in enumerate(annotations)]
    return {"images": images, "annotations": numbered, "categories": [{"id": 1, "name": "fg"}]}


def spans(merged: Json, image_id: int = 1) -> list[tuple[int, int, float]]:
    entries = [entry for entry in merged["annotations"] if entry["image_id"] == image_id]
    boxes = [coco_mask.toBbox(entry["segmentation"]).tolist() for entry in entries]
    return [(int(x), int(x + width), entry["score"]) for (x, _, width, _), entry in zip(boxes, entries, strict=True)]


def test_old_labels_below_the_iou_stay_and_others_make_way() -> None:
    # With the prediction on columns 0..10: IoU 5/10 = 0.5 (replaced), 4/10 (stays), 0 (stays).
    labels = coco(strip(0, 5, 0.9), strip(0, 4, 0.8), strip(12, 15, None))
    predictions = coco(strip(0, 10, 0.7), strip(12, 15, 0.69))
    merged = merge_labels(predictions, labels, 0.7)
    assert spans(merged) == [(0, 10, 0.7), (0, 4, 0.8), (12, 15, 1.0)]
    assert [entry["id"] for entry in merged["annotations"]] == [1, 2, 3]
    assert [entry["area"] for entry in merged["annotations"]] == [10, 4, 3]
    assert spans(merge_labels(predictions, labels, 0.69)) == [(0, 10, 0.7), (12, 15, 0.69), (0, 4, 0.8)]
    assert spans(merge_labels(predictions, labels, 0.7, max_iou=0.4)) == [(0, 10, 0.7), (12, 15, 1.0)]


def test_only_predictions_above_the_threshold_replace_labels() -> None:
    merged = merge_labels(coco(strip(0, 10, 0.5), strip(15, 20, 0.9)), coco(strip(0, 10, 0.2)), 0.7)
    assert spans(merged) == [(15, 20, 0.9), (0, 10, 0.2)]


def test_images_are_matched_by_name_and_those_without_predictions_keep_their_labels() -> None:
    labels = coco(strip(0, 3, 1.0, 1), strip(5, 9, 1.0, 2), names={1: "a.png", 2: "b.png", 3: "c.png"})
    predictions = coco(strip(5, 9, 0.8, 9), names={9: "b.png", 5: "a.png"})
    merged = merge_labels(predictions, labels, 0.7)
    assert [image["file_name"] for image in merged["images"]] == ["a.png", "b.png", "c.png"]
    assert (spans(merged, 1), spans(merged, 2), spans(merged, 3)) == ([(0, 3, 1.0)], [(5, 9, 0.8)], [])


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (coco(strip(0, 4, 0.69)), r"no prediction has a score of at least 0\.7 \(the highest score is 0\.69\)"),
        (coco(), r"no prediction has a score of at least 0\.7 \(there is no prediction\)"),
        (
            coco(strip(0, 4, 0.9), names={1: "z.png"}),
            "predictions of 1 images that the labels do not list, such as 'z.png'",
        ),
        (coco(strip(0, 4, 0.9, 8)), "an annotation is of image id 8, which is not in the file"),
        (coco(strip(0, 4, None)), "needs a number as score, got None"),
        (coco(size=(WIDTH, HEIGHT)), r"'a\.png' is \(20, 6\) \(H, W\) there and \(6, 20\) in the labels"),
        (coco(names={1: "a.png", 2: "a.png"}), "image 'a.png', id 2, is not the only one of its name and id"),
        ({"images": []}, r"predictions: this is not COCO json \(KeyError: 'annotations'\)"),
        (coco({"image_id": 1, "score": 0.9}), "an annotation of image id 1 has no segmentation"),
    ],
)
def test_what_cannot_be_merged_is_refused(predictions: Json, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        merge_labels(predictions, coco(strip(0, 4, 0.5)), 0.7)


def test_masks_without_pixels_are_not_passed_on() -> None:
    labels = coco(strip(9, 9, 0.5), strip(10, 12, 0.5), strip(7, 7, 0.5, 2), names={1: "a.png", 2: "b.png"})
    merged = merge_labels(coco(strip(0, 4, 0.9), strip(3, 3, 0.9)), labels, 0.7)
    assert (spans(merged), spans(merged, 2)) == ([(0, 4, 0.9), (10, 12, 0.5)], [])


def test_every_round_trains_on_merged_labels_and_starts_from_the_one_before() -> None:
    calls: list[Any] = []

    def train(number: int, labels: Mapping[str, Any], previous: Any) -> str:
        calls.append(("train", number, spans(dict(labels)), previous))
        return f"model {number}"

    def predict(number: int, model: str) -> Json:
        calls.append(("predict", number, model))
        return coco(strip(10 + number, 14 + number, (0.7, 0.66)[number]))

    rounds = list(self_train(coco(strip(0, 3, 1.0)), train, predict))
    assert calls == [
        ("train", 0, [(0, 3, 1.0)], None),
        ("predict", 0, "model 0"),
        ("train", 1, [(10, 14, 0.7), (0, 3, 1.0)], "model 0"),
        ("predict", 1, "model 1"),
        ("train", 2, [(11, 15, 0.66), (0, 3, 1.0)], "model 1"),
    ]
    assert [(one.number, one.model) for one in rounds] == [(0, "model 0"), (1, "model 1"), (2, "model 2")]


def test_a_round_without_confident_predictions_is_refused_by_its_number() -> None:
    rounds = self_train(coco(strip(0, 3, 1.0)), lambda *_: "model", lambda *_: coco(strip(0, 3, 0.6)))
    assert next(rounds).number == 0
    with pytest.raises(ValueError, match=r"^round 1: no prediction has a score of at least 0\.7"):
        next(rounds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 3}, r"rounds must be 0 to 2, the number of thresholds \[0\.7, 0\.65\], got 3"),
        ({"rounds": -1}, "rounds must be 0 to 2"),
        ({"thresholds": (0.7, 65)}, r"thresholds must be in \[0, 1\], got 65"),
        ({"max_iou": -0.1}, r"max_iou must be in \[0, 1\], got -0\.1"),
    ],
)
def test_settings_are_checked_before_anything_is_trained(settings: Json, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        self_train(coco(), lambda *_: pytest.fail("trained"), lambda *_: coco(), **settings)
