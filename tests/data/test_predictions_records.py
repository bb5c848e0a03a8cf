"""Predictions from records equal those from the json and the images that the same run wrote."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_results import NOTHING, PHOTOS, contents, fail, keep, make_photos, open_store, predict, run
from toy_tracks import draw_tracks

from eigenseg.data import ImageSource, Instances
from eigenseg.data.datasets import ObjectAnnotation, VideoAnnotation
from eigenseg.data.predictions import LabelPredictions, MapPredictions, VideoPredictions
from eigenseg.data.predictions.coco import CocoPredictions
from eigenseg.data.predictions.records import RecordPredictions, holds_records
from eigenseg.data.results.clip_writers import clip_writers
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import image_writers

NOWHERE = ObjectAnnotation(np.zeros((0, 4)), image_size=(24, 32))
GRAY = np.zeros((24, 32), np.uint8)
CLASSES = ("dog", "cat")
# Names with and without suffix, one that is absent, one that failed.
ITEMS = (*PHOTOS, "b/rex", "a/deep/fog.tif", "absent.jpg", "broken.jpg")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    sources = make_photos(tmp_path / "photos")
    store = run(tmp_path / "out", sources)
    labels = np.array([0, 1])
    for source, names in zip(sources, [("cat", "fg"), ("fg", "dog"), ("cat", "dog"), ("fg", "cow")], strict=True):
        instances = predict(source.name)
        if len(instances):
            keep(store, source, Instances(**{**vars(instances), "labels": labels, "names": names}))
    fail(store, ImageSource(tmp_path / "photos" / "rex.jpg", "broken.jpg"), "it is truncated")
    store.finish(sources)
    return tmp_path / "out"


def test_objects_equal_those_of_instances_json(out: Path) -> None:
    content = json.loads((out / "instances.json").read_text())
    expected = CocoPredictions.from_dataset(content, CLASSES)
    predictions = pickle.loads(pickle.dumps(RecordPredictions(out, "objects", classes=CLASSES)))
    assert list(predictions.names()) == list(expected.names())
    assert predictions.unmatched(ITEMS[:2]) == expected.unmatched(ITEMS[:2])
    for item in ITEMS:
        one, two = predictions.read(item, NOWHERE), expected.read(item, NOWHERE)
        assert predictions.lacks(item) == expected.lacks(item)
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name), strict=True)
        assert (one.masks is None) == (two.masks is None)
        if one.masks is not None:
            assert one.masks.rles == two.masks.rles


@pytest.mark.parametrize("missing", ["error", "empty"])
@pytest.mark.parametrize(
    ("kind", "folder", "reader"), [("semantic", "labels", LabelPredictions), ("saliency", "saliency", MapPredictions)]
)
def test_maps_equal_the_images(out: Path, kind: str, folder: str, reader: Any, missing: Any) -> None:
    predictions, expected = RecordPredictions(out, kind, missing), reader(out / folder, missing)
    for item in (*PHOTOS, "absent.jpg", "broken.jpg"):
        assert predictions.lacks(item) == expected.lacks(item)
        if expected.lacks(item) and missing == "error":
            with pytest.raises(FileNotFoundError, match=f"no prediction for {item} .*missing=empty"):
                predictions.read(item, GRAY)
        else:
            np.testing.assert_array_equal(predictions.read(item, GRAY), expected.read(item, GRAY), strict=True)


@pytest.mark.parametrize("kept", ["arrays", "saliency", "labels"])
def test_saliency_is_soft_where_the_soft_map_was_kept(kept: str, tmp_path: Path) -> None:
    sources = make_photos(tmp_path / "photos")
    run(tmp_path / "out", sources, **{**NOTHING, kept: True})
    predictions = RecordPredictions(tmp_path / "out", "saliency")
    for source in sources:
        instances = predict(source.name)
        soft, hard = instances.saliency_map(), np.asarray(instances.masks).any(axis=0) * np.uint8(255)
        np.testing.assert_array_equal(predictions.read(source.name, GRAY), hard if kept == "labels" else soft, strict=True)


ROWS = [["##.. ##.. ....", "#... #... ....", ".... #... ...#"], [".#.. .#.. ....", ".... ..## ....", ""]]
FRAMES = tuple(f"bear/{t:05d}.jpg" for t in range(3))
VIDEO = VideoAnnotation(FRAMES, np.zeros((3, 3, 4), np.uint8))


@pytest.mark.parametrize("name", ["bear", "bear.mp4"])
@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_videos_equal_their_label_maps(name: str, suffix: str, tmp_path: Path) -> None:
    tracks = draw_tracks(ROWS, scores=[0.5, 0.75], frame_names=tuple(f"{t:05d}{suffix}" for t in range(3)))
    store = ResultStore(tmp_path, {}, clip_writers(overlays=False))
    store.add(Record.of(name, [1, 1, 1], tracks))
    predictions = RecordPredictions(tmp_path, "video")
    expected = (
        VideoPredictions(tmp_path / "labels").read("bear", VIDEO) if name == "bear" else np.stack([*tracks.label_maps()])
    )
    np.testing.assert_array_equal(predictions.read("bear", VIDEO), expected, strict=True)
    some = VideoAnnotation((FRAMES[2], FRAMES[0]), np.zeros((2, 3, 4), np.uint8))
    np.testing.assert_array_equal(predictions.read("bear", some), expected[[2, 0]], strict=True)
    assert predictions.absent_frames(VIDEO) == []
    assert (predictions.lacks("bear"), predictions.lacks("bea")) == (False, True)
    assert predictions.unmatched(["bear"]) == []
    assert predictions.unmatched(["cow"]) == [name]


def test_records_of_frames_are_a_video_and_missing_frames_are_named(tmp_path: Path) -> None:
    tracks = draw_tracks(ROWS)
    store = ResultStore(tmp_path, {}, image_writers(overlays=False))
    for t in (0, 2):
        store.add(Record.of(FRAMES[t], [1, 1], tracks.frame(t)))
    store.add(Record.of("cow/00000.jpg", [1, 1], tracks.frame(0)))
    predictions = RecordPredictions(tmp_path, "video")
    with pytest.raises(FileNotFoundError, match=f"bear: 1 of 3 frames have no prediction, the first is {FRAMES[1]}"):
        predictions.read("bear", VIDEO)
    expected = VideoPredictions(tmp_path / "labels", "empty")
    predictions = RecordPredictions(tmp_path, "video", "empty")
    np.testing.assert_array_equal(predictions.read("bear", VIDEO), expected.read("bear", VIDEO), strict=True)
    assert predictions.absent_frames(VIDEO) == expected.absent_frames(VIDEO) == [FRAMES[1]]
    for item in ("bear", "cow", "fish"):
        assert predictions.lacks(item) == expected.lacks(item)
    assert predictions.unmatched(["bear"]) == expected.unmatched(["bear"]) == ["cow"]
    wrong = VideoAnnotation(FRAMES[:1], np.zeros((1, 5, 6), np.uint8))
    with pytest.raises(ValueError, match="bear/00000.jpg was predicted with 4x3 pixels, the annotation has 6x5"):
        predictions.read("bear", wrong)


def test_a_folder_is_read_while_its_run_goes_on_and_is_not_changed(tmp_path: Path) -> None:
    sources = make_photos(tmp_path / "photos")
    run(tmp_path / "out", sources, limit=2)
    with open(tmp_path / "out" / "manifest.jsonl", "ab") as stream:
        stream.write(b'{"schema":2,"na')
    before = contents(tmp_path / "out")
    predictions = RecordPredictions(tmp_path / "out", "objects")
    assert [predictions.lacks(source.name) for source in sources] == [False, False, True, True]
    assert contents(tmp_path / "out") == before
    open_store(tmp_path / "out")
    assert contents(tmp_path / "out") != before


def test_folders_without_records_and_unknown_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"predictions: .* holds no manifest\.jsonl"):
        RecordPredictions(tmp_path, "objects")
    with pytest.raises(ValueError, match="kind must be 'objects', 'semantic', 'saliency' or 'video', got 'boxes'"):
        RecordPredictions(tmp_path, "boxes")


def test_folders_of_this_version_are_told_from_others(out: Path, tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "eigenseg" / "cli" / "version_0_1" / "out"
    assert [holds_records(folder) for folder in (out, old, tmp_path, tmp_path / "absent")] == [True, False, False, False]
