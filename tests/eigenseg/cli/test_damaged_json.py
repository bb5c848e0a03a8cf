"""Files of other programs with a wrong number, name, id or mask end in one sentence with the file's name, exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, check_one_error

from eigenseg.data import encode_masks

MASK = np.zeros((12, 16), bool)
MASK[2:8, 4:12] = True
RLE: dict[str, Any] = dict(encode_masks(MASK[None])[0])
TRUNCATED = {**RLE, "counts": RLE["counts"][:-3]}
RESULT: dict[str, Any] = {"image_id": 1, "category_id": 1, "bbox": [4, 2, 8, 6], "score": 0.9, "segmentation": RLE}


def dataset(**changes: Any) -> dict[str, Any]:
    entry = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [4, 2, 8, 6], "area": 48, "segmentation": RLE}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 12, **changes.pop("image", {})}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{key: value for key, value in {**entry, **changes}.items() if value is not ...}],
    }


@pytest.fixture
def evaluate(run: Run, tmp_path: Path) -> Callable[[Any, Any], tuple[int, str, str]]:
    """Score predictions (text or json values) against annotations."""

    def score(predictions: Any, annotations: Any) -> tuple[int, str, str]:
        (tmp_path / "root" / "annotations").mkdir(parents=True)
        (tmp_path / "root" / "annotations" / "instances_val2017.json").write_text(json.dumps(annotations))
        text = predictions if isinstance(predictions, str) else json.dumps(predictions)
        (tmp_path / "p.json").write_text(text)
        settings = ("output.dir=ev", "output.report=false", "runtime.processes=1", "evaluation=coco_masks")
        return run("evaluate", "dataset=coco", "dataset.root=root", "predictions=p.json", *settings)

    return score


def test_the_undamaged_files_score_one(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    assert evaluate([RESULT], dataset())[0] == 0
    assert json.loads((tmp_path / "ev" / "metrics.json").read_text())["metrics"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([{**RESULT, "segmentation": TRUNCATED}], "p.json: a.png: its runs cover"),
        ([{**RESULT, "segmentation": {"size": [12, 16], "counts": [10, 5]}}], "p.json: a.png: its runs cover 15 pixels"),
        (
            [{**RESULT, "segmentation": {"size": [16, 12], "counts": RLE["counts"]}}],
            "masks have 12x16 pixels, the image",
        ),
        (dataset(image={"file_name": 1}), "p.json is not in COCO format: images[0] (id 1): file_name must be text, got 1"),
        ("[" * 3000 + "]" * 3000, "p.json is nested more than 100 levels deep"),
        ([{**RESULT, "image_id": [1]}], "p.json is not a result list: entry 0: image_id must be an integer, got [1]"),
        ('[{"image_id": 1, "score": NaN}]', "p.json cannot be read: [0].score is NaN, which json has no form for"),
        ([{**RESULT, "score": None}], "p.json is not a result list: entry 0: score must be a number, got null"),
    ],
)
def test_damaged_predictions_are_refused(evaluate: Callable[..., Any], predictions: Any, message: str) -> None:
    check_one_error(*evaluate(predictions, dataset()), message)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (dataset(segmentation=TRUNCATED), "instances_val2017.json: annotation 5: its runs cover"),
        (dataset(area=...), "instances_val2017.json is not in COCO format: annotations[0] (id 5): area is missing"),
        (dataset(bbox=...), "instances_val2017.json is not in COCO format: annotations[0] (id 5): bbox is missing"),
        (dataset(id=[5]), "instances_val2017.json is not in COCO format: annotations[0]: id must be an integer, got [5]"),
    ],
)
def test_damaged_annotations_are_refused(evaluate: Callable[..., Any], annotations: Any, message: str) -> None:
    check_one_error(*evaluate([RESULT], annotations), message)
