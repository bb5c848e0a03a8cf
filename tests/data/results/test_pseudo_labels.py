"""A COCO loader reads exported labels as the original instances; files with swapped sizes are read as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from eigenseg.cli.main import main
from eigenseg.data import Instances
from eigenseg.data.datasets import CocoInstances
from eigenseg.data.results.pseudo_labels import pseudo_labels
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.sources import ImageSource


def masks() -> NDArray[np.bool_]:
    """Two masks of a 30 x 50 image whose boxes are not those that the method reported."""
    masks = np.zeros((2, 30, 50), dtype=bool)
    masks[0, 5:12, 7:40] = True
    masks[1, 20:29, 1:4] = True
    return masks


@pytest.fixture
def results(tmp_path: Path) -> Path:
    pixels = np.zeros((30, 50, 3), dtype=np.uint8)
    (tmp_path / "dogs").mkdir()
    sources = []
    for name in ("dogs/a.jpg", "b.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
        sources.append(ImageSource(tmp_path / name, name))
    folder = ResultStore(tmp_path / "out", {})
    boxes = np.array([[0, 0, 50, 30], [0, 0, 50, 30]], dtype=np.float32)
    folder.add(Record.of("dogs/a.jpg", None, Instances(masks(), np.array([0.9, 0.3]), boxes, (30, 50))))
    folder.add(Record.of("b.jpg", None, Instances.empty((30, 50), "nothing")))
    folder.finish(sources)
    return tmp_path / "out"


def test_a_coco_loader_reads_masks_boxes_and_true_sizes(results: Path, tmp_path: Path) -> None:
    assert main(["export", str(results), str(tmp_path / "labels.json")]) == 0
    coco = COCO(str(tmp_path / "labels.json"))
    assert [(i["file_name"], i["width"], i["height"]) for i in coco.loadImgs(coco.getImgIds())] == [
        ("b.jpg", 50, 30),
        ("dogs/a.jpg", 50, 30),
    ]
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [a["id"] for a in annotations] == [1, 2]
    for annotation, mask, box in zip(annotations, masks(), [[7, 5, 33, 7], [1, 20, 3, 9]], strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["bbox"] == box
        assert annotation["area"] == mask.sum()
        assert (annotation["width"], annotation["height"], annotation["category_id"], annotation["iscrowd"]) == (
            50,
            30,
            1,
            0,
        )
    assert [category["name"] for category in coco.dataset["categories"]] == ["fg"]


def test_a_score_limit_drops_objects_and_a_prefix_goes_before_names(results: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.json"
    assert main(["export", str(results), str(target), "--min-score", "0.5", "--prefix", "n01/"]) == 0
    content = json.loads(target.read_text())
    assert len(content["annotations"]) == 1
    assert [image["file_name"] for image in content["images"]] == ["n01/b.jpg", "n01/dogs/a.jpg"]


def swap(content: dict[str, Any]) -> dict[str, Any]:
    """As the published generator writes it."""
    for entry in (*content["images"], *content["annotations"]):
        entry["width"], entry["height"] = entry["height"], entry["width"]
    return content


@pytest.mark.parametrize("swapped", [False, True])
def test_correct_and_swapped_files_are_read_equally(results: Path, tmp_path: Path, swapped: bool) -> None:
    content = pseudo_labels(json.loads((results / "instances.json").read_text()))
    (tmp_path / "labels.json").write_text(json.dumps(swap(content) if swapped else content))
    annotation = CocoInstances(tmp_path, annotations=tmp_path / "labels.json").annotation(1)
    assert annotation.image_size == (30, 50)
    assert annotation.masks is not None
    np.testing.assert_array_equal(np.asarray(annotation.masks), masks())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone", "x.json"], "export: no such results gone"),
        (["bad.json", "x.json"], "bad.json is not json"),
        (["other.json", "x.json"], "other.json: this is not an instances.json of eigenseg: images is missing"),
        (
            ["size.json", "x.json"],
            "size.json: this is not an instances.json of eigenseg: images[0] (id 1): height is missing",
        ),
        (["short.json", "x.json"], "short.json: an annotation of image 1: its runs cover 5 pixels, the image has 6"),
        (["stray.json", "x.json"], "stray.json: an annotation has image_id 2, which no image has"),
    ],
)
def test_export_errors_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("{")
    Path("other.json").write_text('{"a": 1}')
    image: dict[str, Any] = {"id": 1, "file_name": "a", "width": 3, "height": 2}
    entry: dict[str, Any] = {"image_id": 1, "segmentation": {"size": [2, 3], "counts": [5]}}
    for name, images, entries in (
        ("size", [{"id": 1, "file_name": "a", "width": 3}], []),
        ("short", [image], [entry]),
        ("stray", [image], [{**entry, "image_id": 2}]),
    ):
        Path(f"{name}.json").write_text(json.dumps({"images": images, "annotations": entries}))
    assert main(["export", *arguments]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not Path("x.json").exists()
