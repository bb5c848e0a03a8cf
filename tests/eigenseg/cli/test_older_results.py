"""Folders that version 0.1 wrote are still read: scored, exported and collected.

``version_0_1/`` was written by that version: two generated images of a disc, ``out/`` by ``extract`` with MaskCut,
``sweep/`` by ``evaluate`` with TokenCut and two values of tau.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from eigenseg.cli.main import main
from eigenseg.data import RleMasks
from eigenseg.data.datasets import SaliencyFolder
from eigenseg.data.predictions import open_predictions

OLD = Path(__file__).parent / "version_0_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old"


def evaluate(old: Path, predictions: Path, output: Path) -> dict[str, object]:
    arguments = [f"dataset.images={old / 'photos'}", f"dataset.masks={old / 'masks'}", f"predictions={predictions}"]
    assert main(["evaluate", "dataset=saliency", *arguments, f"output.dir={output}", "output.report=false"]) == 0
    written: dict[str, object] = json.loads((output / "metrics.json").read_text())
    return written


def unions(path: Path) -> dict[str, NDArray[np.bool_]]:
    """Pixels of any instance by file name, decoded by pycocotools."""
    content = json.loads(path.read_text())
    return {
        image["file_name"]: np.any(
            [coco_mask.decode(a["segmentation"]) for a in content["annotations"] if a["image_id"] == image["id"]], axis=0
        )
        for image in content["images"]
    }


def test_an_evaluations_folder_gives_the_same_numbers_again(old: Path, tmp_path: Path) -> None:
    before = json.loads((old / "sweep" / "0" / "metrics.json").read_text())
    again = evaluate(old, old / "sweep" / "0", tmp_path / "again")
    assert again["metrics"] == before["metrics"]
    assert again["items"] == before["items"]


def test_an_extracted_folder_is_scored_by_its_instances(old: Path, tmp_path: Path) -> None:
    scored = evaluate(old, old / "out", tmp_path / "scored")
    for name, pixels in unions(old / "out" / "instances.json").items():
        expected = np.asarray(Image.open(old / "masks" / name)) > 0
        iou = (pixels & expected).sum() / (pixels | expected).sum()
        assert scored["items"][name]["iou"] == pytest.approx(iou, abs=1e-12)  # type: ignore[index]


def test_its_label_maps_are_read_as_predictions(old: Path) -> None:
    dataset = SaliencyFolder(images=old / "photos", masks=old / "masks")
    predictions = open_predictions(old / "out", dataset)
    for name, pixels in unions(old / "out" / "instances.json").items():
        read = predictions.read(name, dataset.annotation(list(dataset.items).index(name)))
        np.testing.assert_array_equal(read > 0, pixels)


def test_it_is_exported_as_pseudo_labels(old: Path, tmp_path: Path) -> None:
    assert main(["export", str(old / "out"), str(tmp_path / "labels.json")]) == 0
    labels = json.loads((tmp_path / "labels.json").read_text())
    results = json.loads((old / "out" / "instances.json").read_text())
    assert [entry["area"] for entry in labels["annotations"]] == [entry["area"] for entry in results["annotations"]]
    exported = RleMasks([entry["segmentation"] for entry in labels["annotations"]], (48, 64))
    for mask, entry in zip(exported, results["annotations"], strict=True):
        np.testing.assert_array_equal(mask, coco_mask.decode(entry["segmentation"]) > 0)


def test_a_sweep_is_collected(old: Path, tmp_path: Path) -> None:
    assert main(["collect", str(old / "sweep"), "--output", str(tmp_path)]) == 0
    header, *rows = (tmp_path / "collected.csv").read_text().splitlines()
    assert header.split(",")[:2] == ["run", "method.tau"]
    assert [row.split(",")[:2] for row in rows] == [["0", "0.2"], ["1", "0.3"]]
