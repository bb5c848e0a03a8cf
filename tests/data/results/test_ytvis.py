"""Clips joined to one YouTube-VIS file are read by our readers and by the dataset's, and exported as pseudo-labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from pycocotools import mask as reference
from toy_tracks import any_tracks, draw_tracks, to_mask

from eigenseg.cli.main import main
from eigenseg.data import Tracks
from eigenseg.data.datasets import YoutubeVis
from eigenseg.data.results import read_ytvis, track_labels, ytvis_dataset

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

LEFT, RIGHT = "##.. ##..", "..## ..##"
BEAR = draw_tracks([[LEFT, "", RIGHT], [RIGHT, "", ""]], [0.9, 0.3], track_ids=[4, 9], frame_rate=25)
CAMEL = draw_tracks([["#", "#"]], [1 / 3], names=("cat", "fg"), labels=[0])


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, allow_nan=False))
    return path


@settings(deadline=None)
@given(clips=st.dictionaries(st.text(min_size=1, max_size=4), any_tracks(), max_size=3))
def test_clips_come_back_from_a_file_with_seven_digits(clips: dict[str, Tracks], tmp_path_factory: Any) -> None:
    content = ytvis_dataset(reversed(clips.items()))
    assert [video["name"] for video in content["videos"]] == sorted(clips)
    assert [video["id"] for video in content["videos"]] == list(range(1, len(clips) + 1))
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, sum(map(len, clips.values())) + 1))
    read = read_ytvis(write(tmp_path_factory.mktemp("ytvis") / "tracks.json", content))
    assert list(read) == sorted(clips)
    for name, tracks in clips.items():
        same = read[name]
        for field in ("masks", "frame_names", "image_size"):
            assert getattr(same, field) == getattr(tracks, field)
        assert same.track_ids.tolist() == tracks.track_ids.tolist()
        np.testing.assert_allclose(same.scores, tracks.scores, rtol=1e-6)
        np.testing.assert_allclose(same.frame_scores, tracks.frame_scores, rtol=1e-6)
        assert (same.frame_rate or 0) == pytest.approx(tracks.frame_rate or 0, rel=1e-6)
        assert [same.names[label] for label in same.labels] == [tracks.names[label] for label in tracks.labels]


def test_a_file_does_not_depend_on_the_order_of_clips_and_numbers_have_seven_digits() -> None:
    content = ytvis_dataset([("camel", CAMEL), ("bear", BEAR)])
    assert json.dumps(content) == json.dumps(ytvis_dataset([("bear", BEAR), ("camel", CAMEL)]))
    assert [(entry["video_id"], entry["score"]) for entry in content["annotations"]] == [(1, 0.9), (1, 0.3), (2, 0.3333333)]
    assert content["annotations"][2]["frame_scores"] == [0.3333333, 0.3333333]
    assert [(one["id"], one["name"]) for one in content["categories"]] == [(1, "fg"), (2, "cat")]
    assert [entry["category_id"] for entry in content["annotations"]] == [1, 1, 2]
    assert [one["name"] for one in ytvis_dataset([])["categories"]] == ["fg"]
    with pytest.raises(ValueError, match="two clips are named 'bear'; names must be unique"):
        ytvis_dataset([("bear", BEAR), ("camel", CAMEL), ("bear", CAMEL)])


def test_the_reader_of_the_dataset_reads_our_file(tmp_path: Path) -> None:
    write(tmp_path / "tracks.json", ytvis_dataset([("bear", BEAR), ("camel", CAMEL)]))
    dataset = YoutubeVis(tmp_path, annotations=tmp_path / "tracks.json")
    assert list(dataset.items) == ["bear", "camel"]
    annotation = dataset.annotation(0)
    assert annotation.frames == ("bear/00000", "bear/00001", "bear/00002")
    np.testing.assert_array_equal(annotation.labels, np.stack(list(BEAR.label_maps())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("videos"), r"tracks\.json is not in YouTube-VIS form: videos is missing"),
        (lambda c: c["videos"][1].update(id=1), r"tracks\.json: video id 1 occurs twice"),
        (lambda c: c["videos"][1].update(name="bear"), r"tracks\.json: video 'bear' occurs twice"),
        (lambda c: c["videos"][1].update(file_names=3), "is not in YouTube-VIS form"),
        (lambda c: c["categories"][1].update(id=1), r"tracks\.json: category id 1 occurs twice"),
        (lambda c: c["annotations"][0].update(video_id=7), "an annotation has video_id 7, which no video has"),
        (lambda c: c["annotations"][0].pop("video_id"), "is not in YouTube-VIS form"),
        (lambda c: c["annotations"][2].update(score=2), r"tracks\.json: camel: scores must lie in \[0, 1\]"),
        (lambda c: c["annotations"][2]["segmentations"][0].update(counts="abc"), r"tracks\.json: camel: a segmentation"),
    ],
)
def test_damaged_files_are_named_with_the_clip(tmp_path: Path, change: Any, message: str) -> None:
    content = ytvis_dataset([("bear", BEAR), ("camel", CAMEL)])
    change(content)
    with pytest.raises(ValueError, match=message):
        read_ytvis(write(tmp_path / "tracks.json", content))


def test_a_file_that_is_no_json_or_a_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tracks\.json is not json"):
        read_ytvis(write(tmp_path / "tracks.json", "{"))
    with pytest.raises(ValueError, match=r"tracks\.json is not in YouTube-VIS form"):
        read_ytvis(write(tmp_path / "tracks.json", []))


def test_exported_tracks_have_one_category_and_boxes_and_areas_of_their_masks(tmp_path: Path) -> None:
    content = ytvis_dataset([("bear", BEAR), ("camel", CAMEL)])
    for annotation in content["annotations"]:
        annotation["bboxes"] = annotation["areas"] = [0] * len(annotation["areas"])
    write(tmp_path / "tracks.json", content)
    target = tmp_path / "labels.json"
    assert main(["export", str(tmp_path), str(target), "--prefix", "train/", "--min-score", "0.31"]) == 0
    labels = json.loads(target.read_text())
    assert [video["file_names"][0] for video in labels["videos"]] == ["train/bear/00000", "train/camel/00000"]
    assert [(v["id"], v["height"], v["width"], v["length"]) for v in labels["videos"]] == [(1, 2, 4, 3), (2, 1, 1, 2)]
    assert [(category["id"], category["name"]) for category in labels["categories"]] == [(1, "fg")]
    bear, camel = labels["annotations"]
    assert [(one["id"], one["video_id"], one["category_id"], one["iscrowd"]) for one in (bear, camel)] == [
        (1, 1, 1, 0),
        (2, 2, 1, 0),
    ]
    assert (bear["bboxes"], bear["areas"]) == ([[0, 0, 2, 2], None, [2, 0, 2, 2]], [4, None, 4])
    assert (bear["score"], bear["length"], bear["height"], bear["width"]) == (0.9, 3, 2, 4)
    np.testing.assert_array_equal(reference.decode(bear["segmentations"][2]), to_mask(RIGHT))
    write(tmp_path / "plain.json", track_labels(content))
    assert YoutubeVis(tmp_path, annotations=tmp_path / "plain.json").annotation(1).labels.tolist() == [[[1]], [[1]]]


def test_tracks_that_show_nothing_are_not_exported() -> None:
    content = ytvis_dataset([("bear", BEAR)])
    empty = {"size": [2, 4], "counts": [8]}
    content["annotations"][0]["segmentations"] = [None, empty, None]
    content["annotations"][1]["segmentations"][1] = empty
    labels = track_labels(content)
    assert [entry["segmentations"][1:] for entry in labels["annotations"]] == [[None, None]]


def test_a_folder_with_images_and_clips_needs_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = write(tmp_path / "tracks.json", ytvis_dataset([("bear", BEAR)]))
    write(tmp_path / "instances.json", {"images": [], "annotations": [], "categories": []})
    assert main(["export", str(tmp_path), str(tmp_path / "a.json")]) == 2
    assert "holds instances.json and tracks.json; name the file to export" in capsys.readouterr().err
    assert main(["export", str(tracks), str(tmp_path / "a.json")]) == 0
    assert "2 annotations of 1 video ->" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "instances.json"), str(tmp_path / "b.json")]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annotations"), "this is not a tracks.json of eigenseg: annotations is missing"),
        (lambda c: c["annotations"][0].update(video_id=5), "an annotation has video_id 5, which no video has"),
        (lambda c: c["annotations"][0]["segmentations"].pop(), "annotation 1 has 2 segmentations for 3 frames of video 1"),
        (lambda c: c["annotations"][0]["segmentations"][0].update(size=[4, 2]), r"size \[4, 2\], the image \[2, 4\]"),
    ],
)
def test_a_damaged_file_is_not_exported(tmp_path: Path, capsys: Any, change: Any, message: str) -> None:
    content = ytvis_dataset([("bear", BEAR)])
    change(content)
    with pytest.raises(ValueError, match=message):
        track_labels(content)
    assert main(["export", str(write(tmp_path / "tracks.json", content)), str(tmp_path / "a.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "a.json").exists()
