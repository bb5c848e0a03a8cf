"""COCO's and LVIS's boxes, classes and masks are those of the reference reader, for all mask formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference
from pycocotools.coco import COCO
from tiny_files import assert_same_after_pickling, write

from eigenseg.data.datasets import CocoInstances, LvisInstances, YoutubeVis, check_images

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

square = [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]


def content(**changes: Any) -> dict[str, Any]:
    drawn = np.zeros((8, 10), dtype=np.uint8)
    drawn[5:7, 1:9] = 1
    crowd = reference.encode(np.asfortranarray(drawn))
    return {
        "images": [
            {"id": 9, "file_name": "000000000009.jpg", "height": 8, "width": 10},
            {"id": 3, "file_name": "000000000003.jpg", "height": 4, "width": 4},
        ],
        # Categories neither sorted nor without gaps, as COCO's are.
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {"id": 7, "image_id": 9, "category_id": 18, "bbox": [2, 1, 4, 3], "area": 11.5, "segmentation": [square]},
            {
                "id": 2, "image_id": 9, "category_id": 1, "bbox": [1, 5, 8, 2], "area": 16, "iscrowd": 1,
                "segmentation": {"size": [8, 10], "counts": crowd["counts"].decode("ascii")},
            },
            {
                "id": 5, "image_id": 9, "category_id": 17, "bbox": [0.25, 0, 0.5, 8], "area": 8, "iscrowd": 0,
                "segmentation": {"size": [8, 10], "counts": [0, 8, 72]},
            },
        ],
        **changes,
    }  # fmt: skip


def tree(root: Path, **changes: Any) -> Path:
    write(root / "annotations" / "instances_val2017.json", json.dumps(content(**changes)))
    return root


def test_boxes_classes_areas_and_crowds_keep_the_order_of_the_file(tmp_path: Path) -> None:
    dataset = CocoInstances(tree(tmp_path))
    assert list(dataset.items) == ["000000000003.jpg", "000000000009.jpg"]
    assert dataset.classes == ("person", "cat", "dog")
    annotation = dataset.annotation(1)
    np.testing.assert_array_equal(annotation.boxes, [[2, 1, 6, 4], [1, 5, 9, 7], [0.25, 0, 0.75, 8]])
    assert annotation.labels.tolist() == [2, 0, 1]
    assert annotation.areas.tolist() == [11.5, 16, 8]
    assert annotation.crowd.tolist() == [False, True, False]
    assert (annotation.image_id, annotation.image_size) == (9, (8, 10))
    assert dataset.images(1)[0].path == tmp_path / "val2017" / "000000000009.jpg"
    assert dataset.images(1)[0].name == "000000000009.jpg"
    assert_same_after_pickling(dataset)


def test_polygons_and_both_kinds_of_rle_are_decoded_to_the_drawn_masks(tmp_path: Path) -> None:
    masks = np.asarray(CocoInstances(tree(tmp_path)).annotation(1).masks)
    expected = np.zeros((3, 8, 10), dtype=bool)
    expected[0, 1:4, 2:6] = expected[1, 5:7, 1:9] = expected[2, :, 0] = True
    np.testing.assert_array_equal(masks, expected, strict=True)


def test_an_image_without_annotations_has_no_objects_but_a_size(tmp_path: Path) -> None:
    annotation = CocoInstances(tree(tmp_path)).annotation(0)
    assert annotation.masks is not None
    assert (len(annotation), annotation.masks.shape, annotation.image_size, annotation.image_id) == (
        0,
        (0, 4, 4),
        (4, 4),
        3,
    )
    assert CocoInstances(tree(tmp_path), masks=False).annotation(1).masks is None


def test_a_list_selects_and_orders_images(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"COCO_train2014_{i:012}.jpg", "height": 2, "width": 2} for i in (1, 2, 3)]
    write(tmp_path / "annotations" / "instances_train2014.json", json.dumps(content(images=images, annotations=[])))
    chosen = write(tmp_path / "list.txt", "train2014/COCO_train2014_000000000003.jpg\n\nCOCO_train2014_000000000001.jpg\n")
    dataset = CocoInstances(tmp_path, split="train2014", image_list=chosen)
    assert list(dataset.items) == ["COCO_train2014_000000000003.jpg", "COCO_train2014_000000000001.jpg"]
    assert [dataset.annotation(i).image_id for i in range(2)] == [3, 1]
    assert dataset.images(0)[0].path == tmp_path / "train2014" / "COCO_train2014_000000000003.jpg"
    write(chosen, "a/COCO_train2014_000000000003.jpg\nb/none.jpg\n")
    with pytest.raises(ValueError, match=r"list\.txt lists 1 images that the annotations lack, such as none\.jpg"):
        CocoInstances(tmp_path, split="train2014", image_list=chosen)
    write(chosen, "a/COCO_train2014_000000000003.jpg\nb/COCO_train2014_000000000003.jpg\n")
    with pytest.raises(ValueError, match=r"list\.txt: image 'COCO_train2014_000000000003\.jpg' occurs twice"):
        CocoInstances(tmp_path, split="train2014", image_list=chosen)
    with pytest.raises(FileNotFoundError, match=r"COCO train2014: dataset\.image_list=.*/none\.txt is no file; correct it"):
        CocoInstances(tmp_path, split="train2014", image_list=tmp_path / "none.txt")


def test_a_missing_json_is_named_with_the_official_source(tmp_path: Path) -> None:
    source = r"https://cocodataset\.org/#download"
    with pytest.raises(FileNotFoundError, match=rf"COCO val2017 needs .*/annotations/instances_val2017\.json, .*{source}"):
        CocoInstances(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"COCO val2017: 2 of 2 images are missing"):
        check_images(CocoInstances(tree(tmp_path)))


@pytest.mark.parametrize("dataset", [CocoInstances, LvisInstances, YoutubeVis])
def test_own_annotations_are_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    videos = {"videos": [], "annotations": [], "categories": []}
    written = json.dumps(videos if dataset is YoutubeVis else content())
    write(Path("root/below.json"), written)
    write(Path("mine.json"), written)
    assert len(dataset("root", annotations="mine.json").items) == (0 if dataset is YoutubeVis else 2)
    with pytest.raises(FileNotFoundError, match=r": dataset\.annotations=gone\.json is no file; correct it$"):
        dataset("root", annotations="gone.json")
    with pytest.raises(
        FileNotFoundError,
        match=r"annotations=below\.json is no file; a path is relative to .*; did you mean root/below\.json\?$",
    ):
        dataset("root", annotations="below.json")


dog = {"id": 1, "image_id": 9, "category_id": 18, "bbox": [2, 1, 4, 3], "area": 11.5, "segmentation": [square]}


def lacking(key: str) -> dict[str, Any]:
    return {name: value for name, value in dog.items() if name != key}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [dog, dog]}, r"annotation id 1 occurs twice"),
        ({"images": content()["images"] + content()["images"][:1]}, r"image id 9 occurs twice"),
        ({"images": [{**content()["images"][0], "id": i} for i in (1, 2)]}, r"file name '000000000009\.jpg' occurs twice"),
        (
            {"images": [{"id": 1, "height": 2, "width": 2}]},
            "not in COCO format: image 1 has neither file_name nor coco_url",
        ),
        ({"annotations": [{**dog, "category_id": 2}]}, r"annotation 1 has the unknown category 2"),
        ({"categories": None}, r"is not in COCO format: categories must be a list, got null"),
        ({"annotations": [dog, lacking("area")]}, r"is not in COCO format: annotations\[1\] \(id 1\): area is missing"),
        ({"annotations": [lacking("bbox")]}, r"is not in COCO format: annotations\[0\] \(id 1\): bbox is missing"),
        ({"annotations": [{**dog, "bbox": [1, 2, 3]}]}, r"\(id 1\): bbox must be a list of 4 entries, got 3"),
        ({"annotations": [{**dog, "bbox": [1, 2, 3, None]}]}, r"\(id 1\): bbox\[3\] must be a number, got null"),
        ({"annotations": [{**dog, "image_id": [9]}]}, r"\(id 1\): image_id must be an integer, got \[9\]"),
        ({"images": [{**content()["images"][0], "file_name": 9}]}, r"images\[0\] \(id 9\): file_name must be text, got 9"),
        (
            {"images": [{**content()["images"][0], "height": 0}]},
            r"\(id 9\): height must be an integer >= 1, got 0",
        ),
    ],
)
def test_a_json_that_contradicts_itself_is_rejected(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"instances_val2017\.json.*{message}"):
        CocoInstances(tree(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not json: Expecting value"),
        ("{", "is not json: Expecting property name"),
        ("[]", "is not in COCO format"),
        ("{}", "is not in COCO format"),
        ('{"images": [], "annotations": []}', "is not in COCO format"),
    ],
)
def test_a_file_that_is_not_coco_json_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "annotations" / "instances_val2017.json", text)
    with pytest.raises(ValueError, match=rf"instances_val2017\.json {message}"):
        CocoInstances(tmp_path)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([2, 1, -4, 3], r"annotation 1: a bbox .* is negative, got \[2\.0, 1\.0, -4\.0, 3\.0\]$"),
        ([2, 1, 4], r"annotations\[0\] \(id 1\): bbox must be a list of 4 entries, got 3$"),
        (None, r"annotations\[0\] \(id 1\): bbox must be a list, got null$"),
    ],
)
def test_a_box_that_is_none_is_quoted_with_its_annotation(tmp_path: Path, box: Any, message: str) -> None:
    root = tree(tmp_path, annotations=[{**dog, "bbox": box}])
    with pytest.raises(ValueError, match=rf"instances_val2017\.json.*{message}"):
        CocoInstances(root).annotation(1)


def test_a_damaged_mask_names_its_annotation_and_is_not_needed_for_boxes(tmp_path: Path) -> None:
    wrong = {**dog, "segmentation": {"size": [9, 8], "counts": [72]}}
    root = tree(tmp_path, annotations=[wrong])
    with pytest.raises(ValueError, match=r"2017\.json: annotation 1: it has size \[9, 8\], the image \[8, 10\]"):
        CocoInstances(root).annotation(1)
    assert CocoInstances(root, masks=False).annotation(1).boxes.tolist() == [[2, 1, 6, 4]]


def test_eighty_real_images_are_read_as_pycocotools_reads_them(test_data: Path) -> None:
    dataset = CocoInstances(test_data / "coco_tiny")
    check_images(dataset)
    oracle = COCO(test_data / "coco_tiny" / "annotations" / "instances_val2017.json")
    assert len(dataset.items) == 80
    seen = 0
    for i, name in enumerate(dataset.items):
        annotation = dataset.annotation(i)
        entries = oracle.loadAnns(oracle.getAnnIds(imgIds=[annotation.image_id]))
        assert oracle.imgs[annotation.image_id]["file_name"] == name
        assert [dataset.classes[label] for label in annotation.labels] == [
            oracle.cats[e["category_id"]]["name"] for e in entries
        ]
        assert annotation.crowd.tolist() == [bool(e["iscrowd"]) for e in entries]
        assert annotation.areas.tolist() == [e["area"] for e in entries]
        for box, mask, entry in zip(annotation.boxes, annotation.masks or (), entries, strict=True):
            np.testing.assert_allclose(box - np.array([0, 0, *box[:2]]), entry["bbox"], rtol=0, atol=1e-9)
            np.testing.assert_array_equal(mask, oracle.annToMask(entry).astype(bool))
        seen += len(annotation)
    assert seen == 815


def lvis(root: Path) -> Path:
    images = [
        {"id": 12, "coco_url": "http://images.cocodataset.org/train2017/000000000012.jpg", "height": 8, "width": 10},
        {"id": 5, "coco_url": "http://images.cocodataset.org/val2017/000000000005.jpg", "height": 8, "width": 10},
    ]
    entry = {"id": 1, "image_id": 12, "category_id": 17, "bbox": [2, 1, 4, 3], "area": 12, "segmentation": [square]}
    write(root / "annotations" / "lvis_v1_val.json", json.dumps(content(images=images, annotations=[entry])))
    return root


def test_lvis_locates_images_of_both_folders_by_url(tmp_path: Path) -> None:
    dataset = LvisInstances(lvis(tmp_path))
    assert list(dataset.items) == ["val2017/000000000005.jpg", "train2017/000000000012.jpg"]
    assert [source.path for i in range(2) for source in dataset.images(i)] == [
        tmp_path / "val2017" / "000000000005.jpg",
        tmp_path / "train2017" / "000000000012.jpg",
    ]
    assert dataset.images(1)[0].name == "train2017/000000000012.jpg"
    annotation = dataset.annotation(1)
    assert (annotation.boxes.tolist(), annotation.labels.tolist(), annotation.crowd.tolist()) == (
        [[2, 1, 6, 4]],
        [1],
        [False],
    )
    expected = np.zeros((1, 8, 10), dtype=bool)
    expected[0, 1:4, 2:6] = True
    np.testing.assert_array_equal(np.asarray(annotation.masks), expected)
    assert dataset.title == "LVIS v1 val"
    assert_same_after_pickling(dataset)
    chosen = write(tmp_path / "list.txt", "000000000012.jpg\n")
    assert list(LvisInstances(tmp_path, image_list=chosen).items) == ["train2017/000000000012.jpg"]


def test_a_missing_lvis_json_is_named_with_lviss_own_source(tmp_path: Path) -> None:
    message = r"LVIS v1 train needs .*/annotations/lvis_v1_train\.json, .*https://www\.lvisdataset\.org/dataset"
    with pytest.raises(FileNotFoundError, match=message):
        LvisInstances(lvis(tmp_path), split="train")


def test_scores_of_pseudo_labels_are_read_and_stay_with_their_objects(tmp_path: Path) -> None:
    annotations = content()["annotations"]
    annotations[0]["score"], annotations[2]["score"] = 0.25, 1
    dataset = CocoInstances(tree(tmp_path, annotations=annotations))
    scores = dataset.annotation(1).scores
    assert scores is not None
    assert scores.tolist() == [0.25, 1, 1]  # one without a score counts 1
    kept = dataset.annotation(1).keep(np.array([False, False, True])).scores
    assert kept is not None
    assert kept.tolist() == [1]
    assert CocoInstances(tree(tmp_path)).annotation(1).scores is None
    annotations[0]["score"] = None
    with pytest.raises(ValueError, match="score must be a number, got null"):
        CocoInstances(tree(tmp_path, annotations=annotations)).annotation(1)


def test_annotations_of_images_that_are_not_listed_are_known_by_id(tmp_path: Path) -> None:
    annotations = content()["annotations"]
    assert CocoInstances(tree(tmp_path)).orphans == []
    annotations[1]["image_id"] = 77
    assert CocoInstances(tree(tmp_path, annotations=annotations)).orphans == [2]
