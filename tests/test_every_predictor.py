"""What every image model and every video method promises: a new one gets these tests by a line in a table below."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from examples import printed
from numpy.typing import NDArray
from PIL import Image
from result_checks import assert_kept_by_records, assert_same, assert_well_formed
from toy_clips import BROKEN, disc_frame, write_frames

from eigenseg import Clip, ClipPredictor, MaskCut, PerFrame, Predictor, Preprocess, TokenCut, Tracks, open_clip
from eigenseg.data import find_images
from eigenseg.data.inputs import find_clips
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import image_writers
from eigenseg.data.stages import Batching
from eigenseg.discovery import ColorTexture
from eigenseg.discovery.predicting import ImageModel
from eigenseg.pipeline import extract
from eigenseg.segment.detector import Architecture, ClassAgnosticDetector, Detections
from eigenseg.video import VideoMethod

BrightModel = printed("image model", "BrightModel")


def small_detector() -> ClassAgnosticDetector:
    """With random weights: a few boxes anywhere."""
    size = Architecture("resnet18", "group", 32, 32, (32,), 16, (50, 50), (8, 16, 32, 64, 96))
    return ClassAgnosticDetector("random", architecture=size, detections=Detections(max_objects=5), size=64, max_size=96)


IMAGE_MODELS: dict[str, Callable[[], ImageModel]] = {
    "bright_model": BrightModel,
    "class_agnostic_detector": small_detector,
}
VIDEO_METHODS: dict[str, Callable[[], VideoMethod]] = {
    "per_frame_tokencut": lambda: PerFrame(TokenCut()),
    "per_frame_maskcut": lambda: PerFrame(MaskCut(max_masks=2)),
    "per_frame_bright_model": lambda: PerFrame(BrightModel()),
    "changing": printed("video method", "Changing"),
}
# A batch of another size may round the last bits of the features otherwise.
TOLERANCE = 1e-6
pytestmark = pytest.mark.usefixtures("one_thread")
every_model = pytest.mark.parametrize("name", IMAGE_MODELS)
every_method = pytest.mark.parametrize("name", VIDEO_METHODS)


def some_images() -> list[NDArray[np.uint8]]:
    """Of several sizes, two of them equal; the third shows nothing but a dark texture."""
    first, second, third, fourth = (disc_frame(t, seed=t)[0] for t in range(4))
    noise = np.random.default_rng(9).integers(0, 30, (50, 40, 3), dtype=np.uint8)
    return [first, second, noise, third[:60, 5:80], fourth[4:]]


def model_predictor(name: str) -> Predictor:
    return Predictor(None, IMAGE_MODELS[name](), device="cpu")


@every_model
def test_a_model_is_recognized_as_one(name: str) -> None:
    model = IMAGE_MODELS[name]()
    assert isinstance(model, ImageModel)
    assert isinstance(json.dumps(dict(model.provenance())), str)


@every_model
def test_results_of_a_model_are_objects_or_a_reason(name: str) -> None:
    images = some_images()
    results = model_predictor(name).predict(images)
    for image, result in zip(images, results, strict=True):
        assert_well_formed(result, image.shape[:2])
    assert any(len(result) for result in results)


@every_model
@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4]], [[4, 3, 2, 1, 0]], [[1, 4], [0, 2, 3]], [[2], [3, 0], [4, 1]]])
def test_a_batch_of_a_model_gives_what_single_images_give(name: str, batches: list[list[int]]) -> None:
    images = some_images()
    model = IMAGE_MODELS[name]()
    prepared = [model.prepare(image) for image in images]
    alone = [model.infer([one])[0] for one in prepared]
    for batch in batches:
        for bucket in dict.fromkeys(prepared[i].bucket for i in batch):
            together = [i for i in batch if prepared[i].bucket == bucket]
            results = model.infer([prepared[i] for i in together])
            for i, result in zip(together, results, strict=True):
                assert_same(result, alone[i], TOLERANCE)


@every_model
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 1, 4, 0, 2], [2, 2, 0]])
def test_results_of_a_model_are_in_the_order_of_the_images(name: str, order: list[int]) -> None:
    images, predictor = some_images(), model_predictor(name)
    for i, result in zip(order, predictor.predict([images[i] for i in order]), strict=True):
        assert_same(result, predictor(images[i]), TOLERANCE)


@every_model
def test_a_broken_image_fails_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    images = some_images()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "1.png").write_bytes(BROKEN)
    store, sources = ResultStore(tmp_path / "out", {}, image_writers()), find_images(tmp_path / "photos")
    summary = extract(model_predictor(name), sources, store, Batching(5))
    assert (summary.items, summary.failures) == (4, 1)
    assert [record.name for record in store.failures(sources)] == ["1.png"]
    for i in (0, 2, 3, 4):
        record = store.record(f"{i}.png")
        assert record is not None
        assert_same(record.instances(), model_predictor(name)(images[i]), TOLERANCE)


@every_model
def test_a_record_gives_the_results_of_a_model_back(name: str, tmp_path: Path) -> None:
    for result in model_predictor(name).predict(some_images()):
        assert_kept_by_records(result, tmp_path)


def clip_predictor(name: str, batching: Batching | None = None) -> ClipPredictor:
    method = VIDEO_METHODS[name]()
    brings_features = method.needs is None or isinstance(getattr(method, "base", None), ImageModel)
    backbone = None if brings_features else ColorTexture()
    return ClipPredictor(backbone, method, Preprocess(resize=72), device="cpu", batching=batching)


def assert_well_formed_tracks(tracks: Tracks, clip: Clip) -> None:
    """In the clip's frames and pixels; tracks, or a reason why there are none."""
    assert (tracks.frame_names, tracks.image_size) == (clip.frame_names, clip.image_size)
    assert tracks.frame_rate == clip.frame_rate
    assert (tracks.reason is None) == bool(len(tracks))
    for track in tracks.masks:
        assert any(rle is not None for rle in track)


def assert_same_tracks(one: Tracks, other: Tracks, tolerance: float = 0.0) -> None:
    """Everything is equal, scores up to the tolerance."""
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=tolerance)
    np.testing.assert_allclose(one.frame_scores, other.frame_scores, rtol=0, atol=tolerance)
    assert replace(one, scores=other.scores, frame_scores=other.frame_scores).equals(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of a moving disc."""
    return write_frames(tmp_path_factory.mktemp("clips") / "whole", 6)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames, the third of which cannot be decoded."""
    return write_frames(tmp_path_factory.mktemp("clips") / "damaged", 5, broken=(2,))


@pytest.fixture(scope="module", params=VIDEO_METHODS)
def results(request: pytest.FixtureRequest, whole: Path, damaged: Path) -> list[tuple[Clip, Tracks]]:
    """Clips and what a method finds in them: a whole one, a damaged one, a single frame."""
    predictor = clip_predictor(request.param)
    clips = [open_clip(whole), open_clip(damaged), Clip.from_array(disc_frame(0)[0][None], frame_rate=30000 / 1001)]
    return [(clip, predictor(clip)) for clip in clips]


def test_frame_names_and_the_size_are_kept_and_there_are_tracks_or_a_reason(results: list[tuple[Clip, Tracks]]) -> None:
    for clip, tracks in results:
        assert_well_formed_tracks(tracks, clip)
    assert len(results[0][1])


@every_method
@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_clips_are_processed(name: str, length: int) -> None:
    clip = Clip.from_array(np.stack([disc_frame(t)[0] for t in range(length)]))
    assert_well_formed_tracks(clip_predictor(name)(clip), clip)


def test_an_unreadable_frame_is_null_in_every_track_and_named(results: list[tuple[Clip, Tracks]]) -> None:
    _, tracks = results[1]
    assert len(tracks)
    assert list(tracks.metadata["unreadable"]) == ["00002"]
    assert "frame 00002 of clip damaged cannot be read" in tracks.metadata["unreadable"]["00002"]
    assert [track[2] for track in tracks.masks] == [None] * len(tracks)
    assert tracks.present()[:, 3:].any()  # what follows is not lost
    assert "unreadable" not in results[0][1].metadata
    record = Record.of("damaged", None, tracks)
    assert list(record.unreadable) == ["00002"]


@every_method
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 4), (3, 1), (8, 4)])
def test_tracks_do_not_depend_on_batches_and_threads(
    name: str, batch_size: int, workers: int, whole: Path, damaged: Path
) -> None:
    for folder in (whole, damaged):
        expected = clip_predictor(name, Batching(1, 1))(folder)
        assert_same_tracks(clip_predictor(name, Batching(batch_size, workers))(folder), expected, TOLERANCE)


@every_method
def test_the_same_clip_gives_the_same_bits_and_another_one_in_between_changes_nothing(
    name: str, whole: Path, damaged: Path
) -> None:
    predictor = clip_predictor(name)
    first = predictor(whole)
    predictor(damaged)
    assert predictor(whole).equals(first)
    assert clip_predictor(name)(whole).equals(first)


def test_a_record_gives_the_tracks_back(results: list[tuple[Clip, Tracks]]) -> None:
    for _, tracks in results:
        record = Record.of("a/b", [1, 2, 3], tracks, milliseconds=4.25)
        read = Record.from_line(record.to_line())
        assert read.with_arrays(record.arrays).tracks().equals(tracks)
        assert read.to_line() == record.to_line()


def survivors(values: Any) -> dict[str, Any]:
    """The entries that json can hold."""
    kept = {}
    for name, value in values.items():
        try:
            kept[name] = json.loads(json.dumps(value, allow_nan=False, default=lambda one: one.item()))
        except (TypeError, ValueError, AttributeError):
            continue
    return kept


def test_youtube_vis_json_gives_the_tracks_back(results: list[tuple[Clip, Tracks]]) -> None:
    for _, tracks in results:
        content = json.loads(json.dumps(tracks.to_ytvis(video_id=3, first_id=11, name="a/b"), allow_nan=False))
        extras = survivors({name: list(values) for name, values in tracks.extras.items()})
        expected = replace(tracks, extras=extras, metadata=survivors(tracks.metadata))
        assert Tracks.from_ytvis(content).equals(expected)


def test_every_segmentation_is_decoded_by_pycocotools(results: list[tuple[Clip, Tracks]]) -> None:
    for _, tracks in results:
        annotations = tracks.to_ytvis()["annotations"]
        assert len(annotations) == len(tracks)
        for k, annotation in enumerate(annotations):
            frames = zip(
                annotation["segmentations"], annotation["areas"], annotation["bboxes"], tracks.track(k), strict=True
            )
            for segmentation, area, box, mask in frames:
                if mask is None:
                    assert (segmentation, area, box) == (None, None, None)
                    continue
                decoded = coco_mask.decode(segmentation)
                np.testing.assert_array_equal(decoded.astype(bool), mask)
                assert area == decoded.sum() == coco_mask.area(segmentation)
                assert box == coco_mask.toBbox(segmentation).tolist()


@every_method
def test_a_clip_that_fails_costs_no_other_one(name: str, tmp_path: Path) -> None:
    for i in range(3):
        write_frames(tmp_path / "clips" / f"{i}", 3, seed=i)
    Image.new("RGB", (8, 8), (200, 9, 9)).save(tmp_path / "clips" / "1" / "00001.png")
    store, sources = ResultStore(tmp_path / "out", {}, kind="clip"), find_clips(tmp_path / "clips")
    summary = extract(clip_predictor(name), sources, store)
    assert (summary.items, summary.failures) == (2, 1)
    for number in ("0", "2"):
        record = store.record(number)
        assert record is not None
        assert record.tracks().equals(clip_predictor(name)(tmp_path / "clips" / number))
