"""Predictions are matched by the names and ids of the dataset, or the error says why not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from eigenseg.data import Instances
from eigenseg.data.datasets import CocoInstances, ObjectAnnotation, VideoAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.predictions import VideoPredictions, open_predictions
from eigenseg.data.predictions.base import check_overlap, stem
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import LabelWriter, SaliencyWriter
from eigenseg.data.rle import encode_masks
from eigenseg.data.sources import ImageSource
from eigenseg.segment.metrics import CocoAP

NOWHERE = ObjectAnnotation(np.zeros((0, 4)), image_size=(8, 10))
SQUARE = np.zeros((8, 10), dtype=bool)
SQUARE[2:5, 3:7] = True  # xyxy 3, 2, 7, 5


class Toy:
    """Two images, or two videos, that need no files."""

    title, classes = "toy", ("cat", "dog")
    items: ClassVar[list[str]] = ["a/1.jpg", "2.jpg"]

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def images(self, index: int) -> list[ImageSource]:
        return [ImageSource(Path("nowhere", self.items[index]), self.items[index])]

    def annotation(self, index: int) -> Any:
        return NOWHERE


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    def to_file(content: Any, name: str = "predictions.json") -> Path:
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / name

    return to_file


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jpg", "a"), ("a.b/c", "a.b/c"), ("x/a.b.png", "x/a.b"), ("a", "a"), (".hidden", ".hidden"), ("x/.y", "x/.y")],
)
def test_a_stem_removes_only_the_last_suffix_of_the_file_name(name: str, expected: str) -> None:
    assert stem(name) == expected


@pytest.mark.parametrize("key", ["a/1.jpg", "a/1", "a/1.png"])
@pytest.mark.parametrize(
    ("entry", "boxes", "scores"),
    [
        ([1, 2, 3, 4], [[1, 2, 3, 4]], [1]),
        ([[1, 2, 3, 4], [0, 0, 1, 1]], [[1, 2, 3, 4], [0, 0, 1, 1]], [1, 0.5]),
        ({"boxes": [[1, 2, 3, 4]], "scores": [7.5], "labels": [1]}, [[1, 2, 3, 4]], [7.5]),
        ([], np.zeros((0, 4)), []),
    ],
)
def test_boxes_are_matched_by_name_with_or_without_suffix(
    write: Callable[..., Path], key: str, entry: Any, boxes: Any, scores: Any
) -> None:
    predictions = open_predictions(write({key: entry}), Toy("objects"))
    read = predictions.read("a/1.jpg", NOWHERE)
    np.testing.assert_array_equal(read.boxes, boxes)
    np.testing.assert_array_equal(read.scores, scores)
    assert not predictions.lacks("a/1.jpg")
    assert predictions.lacks("2.jpg")
    assert len(predictions.read("2.jpg", NOWHERE)) == 0


def test_a_gzipped_file_is_read_like_a_plain_one(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"2.jpg": [0, 1, 2, 3]}).encode()))
    assert open_predictions(path, Toy("objects")).read("2.jpg", NOWHERE).boxes.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [0, 0, 1, 1], "a": [0, 0, 2, 2]}', "'a' occurs twice"),
        ({"a.jpg": [0, 0, 1, 1], "a.png": [0, 0, 1, 1]}, "two names differ in their suffix only"),
        ("{", "is not json"),
        ("7", "is neither a result list nor a dict"),
        ({"results": [{"image_id": 1}]}, "holds a list under 'results'; a COCO result file is the list itself"),
        ({"boxes": [[0, 0, 1, 1]]}, "holds the boxes of one image without its name; write {name: "),
        ({"2.jpg": {"boxes": [[0, 0, 1, 1]], "scores": [float("nan")]}}, r"2\.jpg\.scores\[0\] is NaN"),
        ([1, 2], "names images by id, and toy has no ids"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1]}], "names images by id, and toy has no ids"),
        ({"images": [], "annotations": [{}], "categories": []}, "not in COCO format"),
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": [], "categories": []},
            "image id 1 occurs twice",
        ),
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}], "annotations": [], "categories": []},
            "file name 'a' occurs twice",
        ),
    ],
)
def test_files_that_are_not_predictions_are_rejected_by_name(
    write: Callable[..., Path], content: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        open_predictions(write(content), Toy("objects"))
    assert "predictions.json" in str(raised.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([3, 0, 1, 1], "x0 <= x1"),
        ([1, 2, 3], "entry 0 must be a list of 4 entries, got 3"),
        ([[1, 2, 3, 4], [1, 2, "3", 4]], r"entry 1\[2\] must be a number, got \"3\""),
        (7, "it must be a list of boxes, or an object with boxes and scores, got 7"),
        ({"boxes": [[0, 0, 1, 1]], "scores": []}, "scores has 0 entries for 1 boxes"),
        ({"boxes": [[0, 0, 1, 1]]}, "scores is missing"),
        ({"boxes": [[0, 0, 1, 1]], "scores": ["high"]}, r"scores\[0\] must be a number, got \"high\""),
        ({"boxes": [[0, 0, 1, 1]], "scores": [1], "labels": [10**30]}, r"labels\[0\] must be an integer <= 2147483647"),
    ],
)
def test_an_invalid_entry_is_named_when_it_is_read(write: Callable[..., Path], entry: Any, message: str) -> None:
    predictions = open_predictions(write({"2.jpg": entry}), Toy("objects"))
    with pytest.raises(ValueError, match=message) as raised:
        predictions.read("2.jpg", NOWHERE)
    assert "predictions.json: 2.jpg: " in str(raised.value)


def coco(tmp_path: Path) -> CocoInstances:
    """Two images numbered 7 and 9, classes numbered 3 and 18."""
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 8, "width": 10},
            {"id": 9, "file_name": "b.jpg", "height": 8, "width": 10},
        ],
        "annotations": [],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    return CocoInstances(tmp_path, annotations=tmp_path / "annotation.json")


def test_a_result_list_uses_the_datasets_ids_of_images_and_classes(write: Callable[..., Path], tmp_path: Path) -> None:
    dataset = coco(tmp_path)
    results = [
        {"image_id": 9, "category_id": 18, "bbox": [3, 2, 4, 3], "score": 0.25},
        {"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1},
        {"image_id": 9, "category_id": 77, "bbox": [0, 0, 2, 2], "score": 3},
    ]
    predictions = open_predictions(write(results), dataset)
    read = predictions.read("b.jpg", dataset.annotation(1))
    np.testing.assert_array_equal(read.boxes, [[3, 2, 7, 5], [0, 0, 1, 1], [0, 0, 2, 2]])
    np.testing.assert_array_equal(read.scores, [0.25, 1, 3])
    np.testing.assert_array_equal(read.labels, [1, 0, -1])
    assert read.masks is None
    assert (predictions.lacks("a.jpg"), predictions.lacks("b.jpg")) == (True, False)
    assert len(predictions.read("a.jpg", dataset.annotation(0))) == 0


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([1, 2], "is not a result list: entry 0 must be an object of keys and values, got 1"),
        ([{"score": 1}], "is not a result list: entry 0: image_id is missing"),
        ([{"image_id": 7}, {"image_id": [7]}], r"is not a result list: entry 1: image_id must be an integer, got \[7\]"),
        ([{"image_id": 7, "bbox": [3, 2, 4]}], "is not a result list: entry 0: bbox must be a list of 4 entries, got 3"),
        ([{"image_id": 7, "bbox": [0, 0, 1, 1], "score": None}], "entry 0: score must be a number, got null"),
        ([{"image_id": "7", "bbox": [0, 0, 1, 1]}], "image_id must be an integer"),
    ],
)
def test_lists_that_are_not_results_are_rejected_by_name(
    write: Callable[..., Path], tmp_path: Path, results: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"predictions.json.*{message}"):
        open_predictions(write(results), coco(tmp_path))


RLE = dict(encode_masks(SQUARE[None])[0])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"bbox": [3, 2, -4, 1]},
            r"a bbox is x, y, width, height, and no width or .* is negative, got \[3.*, -4.*, 1.*\]",
        ),
        ({"bbox": None}, r"entry 2 of 2 of this image has bbox null, and not all entries have a segmentation"),
        ({}, r"entry 2 of 2 of this image has no bbox, and not all entries have a segmentation"),
        ({"bbox": [0, 0, 1, 1], "score": ...}, r"entry 2 of 2 of this image has no score, and other entries .* or none"),
    ],
)
def test_an_invalid_entry_of_a_result_list_is_quoted_as_it_is_in_the_file(
    write: Callable[..., Path], tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    dataset, valid = coco(tmp_path), {"image_id": 9, "category_id": 3, "score": 0.5}
    entry = {name: value for name, value in {**valid, **entry}.items() if value is not ...}
    predictions = open_predictions(write([{**valid, "bbox": [0, 0, 1, 1]}, entry]), dataset)
    with pytest.raises(ValueError, match=rf"predictions.json: b.jpg: {message}$"):
        predictions.read("b.jpg", dataset.annotation(1))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"bbox": [3, 2, 4]}, r"entry 1: bbox must be a list of 4 entries, got 3"),
        ({"bbox": [3, 2, None, 1]}, r"entry 1: bbox\[2\] must be a number, got null"),
        ({"bbox": [0, 0, 1, 1], "score": None}, r"entry 1: score must be a number, got null"),
        ({"bbox": [0, 0, 1, 1], "score": float("nan")}, r"\[1\].*score is NaN"),
        ({"bbox": [0, 0, 1, 1], "score": "0.5"}, r"entry 1: score must be a number, got \"0.5\""),
    ],
)
def test_an_entry_of_another_shape_is_named_when_the_file_is_opened(
    write: Callable[..., Path], tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    valid = {"image_id": 9, "category_id": 3, "score": 0.5}
    with pytest.raises(ValueError, match=message):
        open_predictions(write([{**valid, "bbox": [0, 0, 1, 1]}, {**valid, **entry}]), coco(tmp_path))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [8, 10], "counts": "1"}, "its runs cover 1 pixels, the image has 80"),
        ({"size": [8, 10], "counts": [3, 5]}, "its runs cover 8 pixels, the image has 80"),
        ({"counts": [80]}, r"the size of run lengths must be \[height, width\], got None"),
        ({"size": 3, "counts": [80]}, r"the size of run lengths must be \[height, width\], got 3"),
        ([[1, 2, 3, 4, 5]], "a polygon has 5 numbers"),
    ],
)
def test_a_damaged_mask_names_the_file_and_the_image(
    write: Callable[..., Path], tmp_path: Path, segmentation: Any, message: str
) -> None:
    dataset = coco(tmp_path)
    predictions = open_predictions(write([{"image_id": 9, "segmentation": segmentation}]), dataset)
    with pytest.raises(ValueError, match=rf"predictions\.json: b\.jpg: {message}"):
        predictions.read("b.jpg", dataset.annotation(1))


def test_results_without_any_score_have_score_1_and_null_boxes_are_those_of_the_masks(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = coco(tmp_path)
    entry = {"image_id": 9, "category_id": 3, "bbox": None, "segmentation": RLE}
    read = open_predictions(write([entry]), dataset).read("b.jpg", dataset.annotation(1))
    assert (read.scores.tolist(), read.boxes.tolist()) == ([1.0], [[3, 2, 7, 5]])


def test_the_entries_without_a_mask_are_counted(write: Callable[..., Path], tmp_path: Path) -> None:
    dataset = coco(tmp_path)
    entry = {"image_id": 9, "category_id": 3, "bbox": [3, 2, 4, 3], "score": 0.5}
    results = [{**entry, "segmentation": RLE}] * 28 + [entry]
    read = open_predictions(write(results), dataset).read("b.jpg", dataset.annotation(1))
    assert len(read) == 29
    with pytest.raises(ValueError, match="^b.jpg: 1 of 29 predictions have no mask, the others have one; complete"):
        CocoAP("segm").update("b.jpg", read, dataset.annotation(1))
    CocoAP("bbox").update("b.jpg", read, dataset.annotation(1))


def test_masks_without_boxes_get_tight_ones(write: Callable[..., Path], tmp_path: Path) -> None:
    dataset = coco(tmp_path)
    rle = dict(encode_masks(SQUARE[None])[0])
    polygon = [[3, 2, 7, 2, 7, 5, 3, 5]]
    for segmentation in (rle, polygon):
        results = [{"image_id": 7, "category_id": 3, "segmentation": segmentation, "score": 1}]
        read = open_predictions(write(results), dataset).read("a.jpg", dataset.annotation(0))
        assert read.masks is not None
        np.testing.assert_array_equal(read.masks[0], SQUARE)
        np.testing.assert_array_equal(read.boxes, [[3, 2, 7, 5]])


def test_results_of_eigenseg_are_read_back_for_every_kind(tmp_path: Path) -> None:
    boxes = np.array([[3, 2, 7, 5], [0, 0, 10, 8]], dtype=np.float32)
    instances = Instances(np.stack([SQUARE, ~SQUARE]), np.array([0.9, 0.5]), boxes, (8, 10))
    folder = ResultStore(tmp_path / "out", {}, [LabelWriter()])
    sources = []
    for name in ("a/1.jpg", "2.jpg"):
        save(tmp_path / "images" / name, np.zeros((8, 10, 3), dtype=np.uint8))
        sources.append(ImageSource(tmp_path / "images" / name, name))
    folder.add(Record.of(sources[0].name, None, instances))
    folder.add(Record.of(sources[1].name, None, instances[:1]))
    folder.finish(sources)

    objects = open_predictions(tmp_path / "out", Toy("objects")).read("a/1.jpg", NOWHERE)
    expected = Detections.from_instances(instances)
    np.testing.assert_array_equal(objects.boxes, expected.boxes)
    np.testing.assert_allclose(objects.scores, expected.scores, rtol=1e-7)
    assert objects.masks is not None
    np.testing.assert_array_equal(np.asarray(objects.masks), np.stack([SQUARE, ~SQUARE]))
    gray = open_predictions(tmp_path / "out", Toy("saliency")).read("2.jpg", np.zeros((8, 10), dtype=np.uint8))
    np.testing.assert_array_equal(gray, SQUARE * np.uint8(255))
    labels = open_predictions(tmp_path / "out", Toy("semantic")).read("a/1.jpg", np.zeros((8, 10), dtype=np.uint8))
    np.testing.assert_array_equal(labels, np.where(SQUARE, 1, 2))
    annotation = VideoAnnotation(("a/1.jpg",), np.zeros((1, 8, 10), dtype=np.uint8))
    video = open_predictions(tmp_path / "out", Toy("video")).read("a", annotation)
    np.testing.assert_array_equal(video, np.where(SQUARE, 1, 2)[None])


def test_soft_maps_of_a_result_folder_have_priority_over_its_label_maps(tmp_path: Path) -> None:
    save(tmp_path / "images" / "2.jpg", np.zeros((8, 10, 3), dtype=np.uint8))
    source = ImageSource(tmp_path / "images" / "2.jpg", "2.jpg")
    soft = np.where(SQUARE, 0.75, 0.25).astype(np.float32)
    instances = Instances(
        SQUARE[None], np.ones(1), np.array([[3, 2, 7, 5]], dtype=np.float32), (8, 10), metadata={"saliency": soft}
    )
    folder = ResultStore(tmp_path / "out", {}, [SaliencyWriter()])
    folder.add(Record.of(source.name, None, instances))
    folder.finish([source])
    read = open_predictions(tmp_path / "out", Toy("saliency")).read("2.jpg", np.zeros((8, 10), dtype=np.uint8))
    np.testing.assert_array_equal(read, np.where(SQUARE, 191, 64))


def test_frames_are_read_in_the_annotations_order_and_others_are_ignored(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "v" / f"{i}.png", np.full((8, 10), i, dtype=np.uint8))
    annotation = VideoAnnotation(("v/3.jpg", "v/1.jpg"), np.zeros((2, 8, 10), dtype=np.uint8))
    read = VideoPredictions(tmp_path).read("v", annotation)
    assert read[:, 0, 0].tolist() == [3, 1]


def test_missing_frames_are_counted_or_count_as_empty(tmp_path: Path) -> None:
    save(tmp_path / "v" / "1.png", np.full((8, 10), 5, dtype=np.uint8))
    annotation = VideoAnnotation(("v/0.jpg", "v/1.jpg", "v/2.jpg"), np.zeros((3, 8, 10), dtype=np.uint8))
    with pytest.raises(FileNotFoundError, match="v: 2 of 3 frames have no prediction, the first is v/0.jpg"):
        open_predictions(tmp_path, Toy("video")).read("v", annotation)
    read = open_predictions(tmp_path, Toy("video"), missing="empty").read("v", annotation)
    assert read[:, 0, 0].tolist() == [0, 5, 0]


def test_frames_of_another_size_are_rejected(tmp_path: Path) -> None:
    save(tmp_path / "v" / "0.png", np.zeros((8, 11), dtype=np.uint8))
    annotation = VideoAnnotation(("v/0.jpg",), np.zeros((1, 8, 10), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"0.png has 11x8 pixels, the annotation 10x8; predict in original pixels"):
        VideoPredictions(tmp_path).read("v", annotation)


def test_a_missing_map_is_named_or_counts_as_empty(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", np.full((8, 10), 9, dtype=np.uint8))
    annotation = np.zeros((8, 10), dtype=np.uint8)
    with pytest.raises(FileNotFoundError, match=r"no prediction for 2.jpg \(looked for .*2.png"):
        open_predictions(tmp_path, Toy("saliency")).read("2.jpg", annotation)
    empty = open_predictions(tmp_path, Toy("saliency"), missing="empty")
    assert not empty.read("2.jpg", annotation).any()
    assert (empty.read("a/1.jpg", annotation) == 9).all()


def test_two_files_with_the_same_name_are_rejected(tmp_path: Path) -> None:
    for suffix in ("png", "bmp"):
        save(tmp_path / f"2.{suffix}", np.zeros((8, 10), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"2\.bmp and .*2\.png have the same name"):
        open_predictions(tmp_path, Toy("semantic"))


@pytest.mark.parametrize(
    ("kind", "path", "error", "message"),
    [
        ("objects", "gone.json", FileNotFoundError, "predictions: no such file or folder"),
        ("objects", ".", ValueError, "is a folder without instances.json"),
        ("video", "predictions.json", ValueError, "is a file; toy needs a folder"),
    ],
)
def test_wrong_paths_are_named(
    write: Callable[..., Path], tmp_path: Path, kind: str, path: str, error: type[Exception], message: str
) -> None:
    write({})
    with pytest.raises(error, match=message):
        open_predictions(tmp_path / path, Toy(kind))


def test_predictions_that_match_no_item_are_an_error_and_an_empty_file_is_not(write: Callable[..., Path]) -> None:
    foreign = open_predictions(write({"x.jpg": [0, 0, 1, 1]}), Toy("objects"))
    with pytest.raises(ValueError, match="no prediction matches toy: predictions have names such as 'x.jpg', .* 'a/1.jpg'"):
        check_overlap(foreign, Toy("objects"), [0, 1])
    assert check_overlap(open_predictions(write({}), Toy("objects")), Toy("objects"), [0, 1]) == 2
    half = open_predictions(write({"x.jpg": [0, 0, 1, 1], "2.jpg": []}), Toy("objects"))
    assert check_overlap(half, Toy("objects"), [0, 1]) == 1
    assert half.unmatched(Toy.items) == ["x.jpg"]


def test_unmatched_predictions_are_listed_by_every_reader(write: Callable[..., Path], tmp_path: Path) -> None:
    dataset = coco(tmp_path)
    results = open_predictions(write([{"image_id": i, "bbox": [0, 0, 1, 1]} for i in (9, 11)]), dataset)
    assert results.unmatched(dataset.items) == ["image_id 11"]
    for name in ("a/1.png", "b.png", "v/0.png"):
        save(tmp_path / "maps" / name, np.zeros((8, 10), dtype=np.uint8))
    assert open_predictions(tmp_path / "maps", Toy("saliency")).unmatched(Toy.items) == ["b", "v/0"]
    assert VideoPredictions(tmp_path / "maps").unmatched(["a", "v"]) == [""]
