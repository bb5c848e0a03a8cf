"""Tracks in a json predict the frames of a video dataset exactly as label maps of the same tracks do."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from toy_tracks import any_tracks, draw_tracks

from eigenseg.data import Tracks, write_label_map
from eigenseg.data.datasets import VideoAnnotation
from eigenseg.data.predictions import TrackPredictions, VideoPredictions, open_predictions
from eigenseg.data.predictions.base import check_overlap
from eigenseg.data.results import ytvis_dataset
from eigenseg.data.sources import ImageSource

LEFT, RIGHT, ALL = "##.. ##..", "..## ..##", "#### ####"
BEAR = draw_tracks([[LEFT, "", ALL], ["", "", RIGHT]], [0.5, 0.75])
CAMEL = draw_tracks([[ALL]])


class Videos:
    """Two videos that need no files."""

    kind, title, classes = "video", "toy", ()
    items: ClassVar[list[str]] = ["bear", "camel"]

    def images(self, index: int) -> list[ImageSource]:
        return []

    def annotation(self, index: int) -> VideoAnnotation:
        return annotation("bear/00000.jpg", "bear/00002.jpg")


def annotation(*frames: str, size: tuple[int, int] = (2, 4)) -> VideoAnnotation:
    return VideoAnnotation(frames, np.zeros((len(frames), *size), dtype=np.uint8))


def content(**clips: Tracks) -> dict[str, Any]:
    return json.loads(json.dumps(ytvis_dataset(clips.items())))  # type: ignore[no-any-return]


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@settings(deadline=None, max_examples=50)
@given(tracks=any_tracks())
def test_tracks_and_their_label_maps_are_the_same_prediction(tracks: Tracks, tmp_path_factory: Any) -> None:
    names = tuple(f"{t:05d}" for t in range(len(tracks.frame_names)))
    tracks = Tracks(tracks.masks, tracks.scores, tracks.track_ids, names, tracks.image_size)
    folder = tmp_path_factory.mktemp("labels")
    for name, labels in zip(names, tracks.label_maps(), strict=True):
        write_label_map(folder / "bear" / f"{name}.png", labels)
    asked = annotation(*(f"bear/{name}.jpg" for name in reversed(names)), size=tracks.image_size)
    clip = tracks.to_ytvis(name="bear")
    read = TrackPredictions({**clip, "videos": [clip["video"]]}).read("bear", asked)
    np.testing.assert_array_equal(read, VideoPredictions(folder).read("bear", asked), strict=True)


def test_the_higher_track_score_is_on_top_and_numbers_are_the_order_of_the_file() -> None:
    read = TrackPredictions(content(bear=BEAR)).read(
        "bear", annotation("bear/00002.jpg", "bear/00001.jpg", "bear/00000.jpg")
    )
    assert read.dtype == np.int32
    assert read.tolist() == [[[1, 1, 2, 2]] * 2, [[0] * 4] * 2, [[1, 1, 0, 0]] * 2]


@pytest.mark.parametrize(
    ("clip", "frames", "item", "asked"),
    [
        ("bear", ("00000",), "bear", "bear/00000.jpg"),
        ("bear", ("00000.png",), "bear", "bear/00000.jpg"),
        ("bear", ("00000.png",), "bear", "bear/00000"),
        ("bear.mp4", ("00000",), "bear", "bear/00000.jpg"),
        ("bear", ("00000",), "bear.mp4", "bear.mp4/00000.jpg"),
        ("zoo/bear", ("00000",), "zoo/bear", "zoo/bear/00000.jpg"),
        ("bear", ("t1.5", "t1.6"), "bear", "bear/t1.5"),
        ("bear", ("left/00000.jpg", "right/00000.jpg"), "bear", "bear/left/00000.jpg"),
    ],
)
def test_clips_and_frames_are_matched_with_or_without_suffix(clip: str, frames: Any, item: str, asked: str) -> None:
    tracks = draw_tracks([[LEFT, *[RIGHT] * (len(frames) - 1)]], frame_names=frames)
    predictions = TrackPredictions(content(**{clip: tracks, "other": CAMEL}))
    assert not predictions.lacks(item)
    assert predictions.unmatched([item]) == ["other"]
    assert predictions.absent_frames(annotation(asked)) == []
    assert predictions.read(item, annotation(asked)).tolist() == [[[1, 1, 0, 0]] * 2]


def test_other_clips_and_frames_do_not_match() -> None:
    predictions = TrackPredictions(content(**{"v1.0": CAMEL, "bear.mp4": CAMEL, "bear.avi": CAMEL}))
    assert [predictions.lacks(item) for item in ("v1.0", "v1.1", "ear", "bear.avi")] == [False, True, True, False]
    with pytest.raises(ValueError, match=r"predictions: bear may be bear\.avi or bear\.mp4; keep one of them"):
        predictions.lacks("bear")
    assert predictions.absent_frames(annotation("v1.0/00000.jpg", "v1.0/00001.jpg", "v1.1/00000.jpg")) == [
        "v1.0/00001.jpg",
        "v1.1/00000.jpg",
    ]
    assert list(predictions.names()) == ["bear.avi", "bear.mp4", "v1.0"]


def test_missing_frames_are_counted_or_count_as_empty() -> None:
    asked = annotation("bear/00000.jpg", "bear/00007.jpg", "bear/00008.jpg")
    with pytest.raises(FileNotFoundError, match="bear: 2 of 3 frames have no prediction, the first is bear/00007.jpg"):
        TrackPredictions(content(bear=BEAR)).read("bear", asked)
    read = TrackPredictions(content(bear=BEAR), missing="empty").read("bear", asked)
    assert read.tolist() == [[[1, 1, 0, 0]] * 2, [[0] * 4] * 2, [[0] * 4] * 2]
    assert not TrackPredictions(content(camel=CAMEL), missing="empty").read("bear", asked).any()


def test_a_clip_of_another_size_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"t\.json: bear has 4x2 pixels, the annotation 5x3; predict in original pixels"):
        TrackPredictions(content(bear=BEAR), "t.json").read("bear", annotation("bear/00000.jpg", size=(3, 5)))


def test_a_clip_of_another_program_is_read() -> None:
    foreign = {
        "videos": [{"id": 5, "file_names": ["bear/00000.jpg"], "width": 4, "height": 2, "length": 1}],
        "annotations": [
            {
                "id": 0,
                "video_id": 5,
                "category_id": 3,
                "score": 0.25,
                "segmentations": [{"size": [2, 4], "counts": [0, 8]}],
            },
            {"id": 1, "video_id": 5, "category_id": 3, "score": 0.5, "segmentations": [{"size": [2, 4], "counts": [4, 4]}]},
        ],
        "categories": [{"id": 3, "name": "bear"}],
    }
    assert TrackPredictions(foreign).read("bear", annotation("bear/00000.jpg")).tolist() == [[[1, 1, 2, 2]] * 2]


def test_a_worker_process_reads_the_same() -> None:
    predictions, asked = TrackPredictions(content(bear=BEAR)), annotation("bear/00002.jpg")
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(predictions)).read("bear", asked), predictions.read("bear", asked)
    )


@pytest.mark.parametrize("place", ["tracks.json", "out/tracks.json", "out/predictions/tracks.json"])
def test_a_file_and_a_result_folder_without_label_maps_are_opened(tmp_path: Path, place: str) -> None:
    file = write(tmp_path / place, content(bear=BEAR, camel=CAMEL))
    path = file if place == "tracks.json" else tmp_path / "out"
    predictions = open_predictions(path, Videos())
    assert check_overlap(predictions, Videos(), [0, 1]) == 0
    assert predictions.read("bear", Videos().annotation(0)).tolist() == [[[1, 1, 0, 0]] * 2, [[1, 1, 2, 2]] * 2]


def test_label_maps_of_a_result_folder_have_priority_over_its_tracks(tmp_path: Path) -> None:
    write(tmp_path / "tracks.json", content(bear=BEAR))
    write_label_map(tmp_path / "labels" / "bear" / "00000.png", np.full((2, 4), 7))
    assert open_predictions(tmp_path, Videos()).read("bear", annotation("bear/00000.jpg")).tolist() == [[[7] * 4] * 2]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tracks.json", "{", r"tracks\.json is not json"),
        ("tracks.json", [], "is a file; toy needs a folder of label maps, or a json in YouTube-VIS form"),
        ("tracks.json", {"images": []}, "is a file; toy needs a folder of label maps, or a json in YouTube-VIS form"),
        ("labels.png", "", "is a file; toy needs a folder of label maps, or a json in YouTube-VIS form"),
        ("tracks.json", {"videos": [{}], "annotations": []}, r"tracks\.json is not in YouTube-VIS form"),
        ("tracks.json", {"videos": []}, r"tracks\.json is not in YouTube-VIS form: annotations is missing"),
        ("tracks.json", {"videos": 3, "annotations": []}, r"tracks\.json is not in YouTube-VIS form"),
        ("tracks.json", {"videos": [], "annotations": [3]}, r"tracks\.json is not in YouTube-VIS form"),
        (
            "tracks.json",
            {"videos": [{"id": 1, "height": 2, "width": 2, "file_names": ["a/0.jpg", "a/0.png"]}], "annotations": []},
            r"tracks\.json: a lists the frame 0 twice, with or without suffix",
        ),
    ],
)
def test_files_that_are_no_tracks_are_rejected_by_name(tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_predictions(write(tmp_path / name, value), Videos())


def test_a_damaged_clip_is_named_when_it_is_read() -> None:
    damaged = content(bear=BEAR, camel=CAMEL)
    damaged["annotations"][0]["segmentations"][0]["counts"] = "abc"
    predictions = TrackPredictions(damaged, "t.json")
    assert predictions.read("camel", annotation("camel/00000.jpg")).all()
    with pytest.raises(ValueError, match=r"t\.json: bear: a segmentation is neither polygons nor run lengths"):
        predictions.read("bear", annotation("bear/00000.jpg"))
