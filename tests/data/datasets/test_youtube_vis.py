"""YouTube-VIS: each object keeps one number over the video, overlap belongs to the first listed, crowds are void."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as reference
from tiny_files import assert_same_after_pickling, write

from eigenseg.data.datasets import YoutubeVis, check_images

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


def box(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def compressed(mask: NDArray[np.uint8]) -> dict[str, Any]:
    rle = reference.encode(np.asfortranarray(mask))
    return {"size": [4, 6], "counts": rle["counts"].decode("ascii")}


def plain(mask: NDArray[np.uint8]) -> dict[str, Any]:
    down = mask.ravel(order="F")
    counts, value = [0], 0
    for pixel in down:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": [4, 6], "counts": counts}


def content(**changes: Any) -> dict[str, Any]:
    names = ["0043f083b5/00000.jpg", "0043f083b5/00005.jpg"]
    return {
        "videos": [
            {"id": 8, "file_names": names, "width": 6, "height": 4, "length": 2},
            {"id": 2, "file_names": ["00f88c4f0a/00000.jpg"], "width": 3, "height": 2, "length": 1},
        ],
        "categories": [{"id": 2, "name": "giant_panda"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 30, "video_id": 8, "category_id": 2, "segmentations": [plain(box(0, 0, 2, 3)), None]},
            {"id": 9, "video_id": 8, "category_id": 1, "iscrowd": 1, "segmentations": [plain(box(0, 0, 4, 1)), None]},
            {
                "id": 10, "video_id": 8, "category_id": 1, "iscrowd": 0,
                "segmentations": [compressed(box(1, 2, 4, 6)), compressed(box(3, 5, 4, 6))],
            },
        ],
        **changes,
    }  # fmt: skip


def tree(root: Path, path: str = "train.json", **changes: Any) -> Path:
    write(root / path, json.dumps(content(**changes)))
    return root


def test_both_mask_formats_are_drawn_and_overlap_belongs_to_the_first_object(tmp_path: Path) -> None:
    dataset = YoutubeVis(tree(tmp_path))
    assert list(dataset.items) == ["00f88c4f0a", "0043f083b5"]
    assert dataset.classes == ("person", "giant_panda")
    annotation = dataset.annotation(1)
    first = [[1, 1, 1, 0, 0, 0], [1, 1, 1, 2, 2, 2], [255, 0, 2, 2, 2, 2], [255, 0, 2, 2, 2, 2]]
    second = [[0] * 6, [0] * 6, [0] * 6, [0, 0, 0, 0, 0, 2]]
    np.testing.assert_array_equal(annotation.labels, np.array([first, second], dtype=np.uint8), strict=True)
    assert annotation.frames == ("0043f083b5/00000.jpg", "0043f083b5/00005.jpg")
    assert_same_after_pickling(dataset)


def test_a_video_without_objects_is_background(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        YoutubeVis(tree(tmp_path)).annotation(0).labels, np.zeros((1, 2, 3), dtype=np.uint8), strict=True
    )


def test_frames_are_those_of_the_json(tmp_path: Path) -> None:
    dataset = YoutubeVis(tree(tmp_path))
    assert [source.name for source in dataset.images(1)] == ["0043f083b5/00000.jpg", "0043f083b5/00005.jpg"]
    assert dataset.images(1)[1].path == tmp_path / "train" / "JPEGImages" / "0043f083b5" / "00005.jpg"
    with pytest.raises(FileNotFoundError, match="YouTube-VIS 2019 train: 3 of 3 images are missing"):
        check_images(dataset)


def test_each_year_has_its_own_path_of_the_json(tmp_path: Path) -> None:
    source = r"https://youtube-vos\.org/dataset/vis/"
    with pytest.raises(FileNotFoundError, match=rf"YouTube-VIS 2019 train needs .*/train\.json, .*{source}"):
        YoutubeVis(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"YouTube-VIS 2021 train needs .*/train/instances\.json, .*{source}"):
        YoutubeVis(tmp_path, year=2021)
    assert YoutubeVis(tree(tmp_path, "train/instances.json"), year=2021).title == "YouTube-VIS 2021 train"
    assert len(YoutubeVis(tree(tmp_path, "own/mine.json"), annotations=tmp_path / "own/mine.json").items) == 2


panda = content()["annotations"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [panda, panda]}, "annotation id 30 occurs twice"),
        ({"videos": [content()["videos"][0]] * 2}, "video id 8 occurs twice"),
        ({"videos": [{**content()["videos"][0], "id": i} for i in (1, 2)]}, "video '0043f083b5' occurs twice"),
        ({"annotations": None}, "has no annotations; they are published for split train only"),
        (
            {"videos": [{**content()["videos"][0], "file_names": []}]},
            r"not in YouTube-VIS form: video 8 has no file_names",
        ),
        (
            {"videos": [{"id": 1, "file_names": ["a/b"]}]},
            r"form: videos\[0\] \(id 1\): height is missing",
        ),
        ({"videos": [{**content()["videos"][0], "id": [8]}]}, r"videos\[0\]: id must be an integer, got \[8\]"),
        (
            {"annotations": [{**panda, "video_id": "8"}]},
            r'\[0\] \(id 30\): video_id must be an integer, got "8"',
        ),
        ({"categories": 3}, r"is not in YouTube-VIS form: categories must be a list, got 3"),
    ],
)
def test_a_json_that_contradicts_itself_is_rejected(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.json.*{message}"):
        YoutubeVis(tree(tmp_path, **changes))


@pytest.mark.parametrize(
    ("segmentations", "message"),
    [
        ([None], "has 1 segmentations for 2 frames"),
        ([{"size": [6, 4], "counts": [24]}, None], r"it has size \[6, 4\], the image \[4, 6\]"),
        ([{"size": [4, 6], "counts": [3, 5]}, None], "its runs cover 8 pixels, the image has 24"),
        ([{"size": [4, 6], "counts": "\x80é"}, None], "malformed"),
        ([{"size": [4, 6], "counts": 7}, None], "neither polygons nor run lengths"),
    ],
)
def test_a_damaged_mask_names_its_annotation(tmp_path: Path, segmentations: list[Any], message: str) -> None:
    root = tree(tmp_path, annotations=[{**panda, "segmentations": segmentations}])
    with pytest.raises(ValueError, match=rf"train\.json: annotation 30:? .*{message}"):
        YoutubeVis(root).annotation(1)


def test_more_objects_than_a_label_map_holds_are_rejected_and_crowds_do_not_count(tmp_path: Path) -> None:
    def many(count: int, **more: Any) -> list[dict[str, Any]]:
        return [{**panda, "id": i, **more} for i in range(count)]

    with pytest.raises(ValueError, match=r"0043f083b5 has 255 objects; a label map holds 254"):
        YoutubeVis(tree(tmp_path, annotations=many(255))).annotation(1)
    covered = [*many(253), {**panda, "id": 500, "segmentations": [plain(box(3, 5, 4, 6)), None]}]
    assert YoutubeVis(tree(tmp_path, annotations=covered)).annotation(1).labels[0, 3, 5] == 254
    assert YoutubeVis(tree(tmp_path, annotations=many(300, iscrowd=1))).annotation(1).labels.max() == 255
