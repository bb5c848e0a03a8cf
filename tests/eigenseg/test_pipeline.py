"""Every image and clip has its own outcome, whatever happens to the others; a stopped run continues exactly."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eigenseg import ClipPredictor, PerFrame, Predictor
from eigenseg.data import Instances, find_images
from eigenseg.data.files import OutputError
from eigenseg.data.inputs import find_clips
from eigenseg.data.results.clip_writers import clip_writers
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import image_writers
from eigenseg.data.stages import Batching
from eigenseg.discovery import PlainImage
from eigenseg.pipeline import Summary, extract

IDENTITY = {"method": "test"}


class BrightPixels:
    """A model whose result can be recognized: everything brighter than 100; a black image is an error."""

    prepare = staticmethod(PlainImage.of)

    def __init__(self, bug: type[Exception] | None = None) -> None:
        self.bug, self.inferred = bug, 0

    def infer(self, batch: Sequence[PlainImage]) -> list[Instances]:
        self.inferred += len(batch)
        if self.bug:
            raise self.bug("missing")
        return [self._one(prepared) for prepared in batch]

    def _one(self, prepared: PlainImage) -> Instances:
        if prepared.image.max() == 0:
            raise ValueError("a black image")
        mask = prepared.image.max(axis=2) > 100
        box = np.array([[0, 0, mask.shape[1], mask.shape[0]]], dtype=np.float32)
        return Instances(mask[None], np.array([0.5], dtype=np.float32), box, mask.shape)

    def to(self, device: torch.device) -> BrightPixels:
        return self

    def provenance(self) -> dict[str, Any]:
        return {}


def predictor(model: BrightPixels | None = None) -> Predictor:
    return Predictor(None, model or BrightPixels(), device="cpu")


def store(root: Path, clips: bool = False, **settings: Any) -> ResultStore:
    return ResultStore(root, IDENTITY, clip_writers(**settings) if clips else image_writers(**settings))


def run(
    out: Path, photos: Path, model: BrightPixels | None = None, batching: Batching | None = None, **settings: Any
) -> Summary:
    return extract(predictor(model), find_images(photos), store(out, **settings), batching)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(7):
        path = folder / ("left" if i % 2 else "right") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(1, 255, (10 + i, 20, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three folders of four frames: a bright square that moves by two pixels a frame."""
    for name in ("a", "b/x", "c"):
        folder = tmp_path / "clips" / name
        folder.mkdir(parents=True)
        for t in range(4):
            pixels = np.full((24, 32, 3), 40, dtype=np.uint8)
            pixels[6:16, 4 + 2 * t : 14 + 2 * t] = 220
            Image.fromarray(pixels).save(folder / f"{t:05d}.png")
    return tmp_path / "clips"


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the ones that hold times."""
    names = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.jsonl", "run.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_results_do_not_depend_on_batches_and_threads(photos: Path, tmp_path: Path, batch_size: int, workers: int) -> None:
    summary = run(tmp_path / "out", photos, batching=Batching(batch_size, workers))
    assert (summary.items, summary.objects, summary.failures) == (7, 7, 0)
    for source in find_images(photos):
        labels = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{source.name}.png"))
        np.testing.assert_array_equal(labels > 0, np.asarray(Image.open(source.path)).max(axis=2) > 100)
    run(tmp_path / "one", photos, batching=Batching(1, 1))
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_failures_of_reading_and_of_predicting_stay_with_their_images(photos: Path, tmp_path: Path) -> None:
    (photos / "left" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    Image.new("RGB", (8, 8)).save(photos / "right" / "black.png")
    results = store(tmp_path / "out")
    summary = extract(predictor(), find_images(photos), results, Batching(9))
    assert (summary.items, summary.failures) == (7, 2)
    failures = {record.name: record.error or "" for record in results.failures(find_images(photos))}
    assert "broken.png" in failures.pop("left/broken.png")
    assert failures == {"right/black.png": "a black image"}


def test_a_bug_is_recorded_with_its_type_and_leaves_its_traceback(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = store(tmp_path / "out")
    assert extract(predictor(BrightPixels(KeyError)), find_images(photos), results).failures == 7
    assert {record.error for record in results.records()} == {"KeyError: 'missing'"}
    assert "Traceback" in caplog.text


def test_an_image_that_never_fits_into_memory_fails_alone(photos: Path, tmp_path: Path) -> None:
    class Large(BrightPixels):
        def infer(self, batch: Sequence[PlainImage]) -> list[Instances]:
            if any(prepared.image.shape[0] == 13 for prepared in batch):
                raise MemoryError
            return super().infer(batch)

    summary = run(tmp_path / "out", photos, Large())
    assert (summary.items, summary.failures) == (6, 1)


def test_a_second_run_does_nothing(photos: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", photos)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    model = BrightPixels()
    summary = run(tmp_path / "out", photos, model)
    assert (summary.items, summary.failures, summary.skipped, model.inferred) == (0, 0, 7, 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_new_writer_fills_in_without_computing(photos: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", photos, overlays=False)
    model = BrightPixels()
    seen: list[int] = []
    results = store(tmp_path / "out", overlays=True, masks=True)
    summary = extract(predictor(model), find_images(photos), results, on_progress=seen.append)
    assert (summary.items, summary.filled, model.inferred, sum(seen)) == (0, 7, 0, 7)
    run(tmp_path / "whole", photos, overlays=True, masks=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("stop_after", [0, 1, 4, 6])
def test_an_interrupted_run_continues_to_what_an_undisturbed_one_writes(
    photos: Path, tmp_path: Path, stop_after: int
) -> None:
    run(tmp_path / "whole", photos)
    seen: list[int] = []

    def interrupt(count: int) -> None:
        seen.append(count)
        if len(seen) > stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(predictor(), find_images(photos), store(tmp_path / "out"), Batching(2), interrupt)
    summary = run(tmp_path / "out", photos)
    assert stop_after + 1 <= summary.skipped <= 7  # what was being written was written to the end
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_failed_image_is_tried_again_and_then_counts_as_done(photos: Path, tmp_path: Path) -> None:
    broken = photos / "left" / "1.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:40])
    assert run(tmp_path / "out", photos).failures == 1
    assert len(json.loads((tmp_path / "out" / "instances.json").read_text())["images"]) == 6
    broken.write_bytes(good)
    summary = run(tmp_path / "out", photos)
    assert (summary.items, summary.failures, summary.skipped) == (1, 0, 6)
    assert len(json.loads((tmp_path / "out" / "instances.json").read_text())["images"]) == 7


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_the_new_one(photos: Path, tmp_path: Path) -> None:
    class Replacing(BrightPixels):
        def prepare(self, image: Any) -> PlainImage:  # type: ignore[override]
            prepared = PlainImage.of(image)
            if Path(image).name == "2.png":
                Image.new("RGB", (40, 30), (250, 250, 250)).save(image)
            return prepared

    run(tmp_path / "out", photos, Replacing())
    summary = run(tmp_path / "out", photos)
    assert (summary.items, summary.skipped) == (1, 6)


def test_a_full_disk_stops_the_run_at_once_and_keeps_what_was_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = ResultStore.add, []

    def full(self: ResultStore, *arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) >= 4:
            raise OutputError(28, "cannot write overlays: the disk is full")
        write(self, *arguments)

    monkeypatch.setattr(ResultStore, "add", full)
    with pytest.raises(OutputError, match="the disk is full"):
        run(tmp_path / "out", photos, batching=Batching(1, 1))
    assert len(calls) < 7
    monkeypatch.undo()
    assert run(tmp_path / "out", photos).skipped == 3


def test_an_image_whose_result_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b" * 247 + ".png"):  # with .png the label's name has 255 bytes, with .tmp or more too many
        Image.new("RGB", (9, 9), (200, 0, 9)).save(tmp_path / "photos" / name)
    Image.new("RGB", (9, 9), (200, 0, 9)).save(tmp_path / "photos" / ("c" * 251 + ".png"))
    results = store(tmp_path / "out")
    summary = extract(predictor(), find_images(tmp_path / "photos"), results)
    assert (summary.items, summary.failures) == (2, 1)
    record = results.record("c" * 251 + ".png")
    assert record is not None
    assert "the name is too long for this file system" in (record.error or "")


def test_a_pipe_among_the_images_is_no_image(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    sources = find_images(photos)
    results = store(tmp_path / "out")
    assert extract(predictor(), sources, results).failures == 1
    assert "is no regular file" in (next(iter(results.failures(sources))).error or "")


def test_times_and_the_slowest_stage_are_in_run_json(photos: Path, tmp_path: Path) -> None:
    summary = run(tmp_path / "out", photos)
    times = json.loads((tmp_path / "out" / "run.json").read_text())["times"]
    assert times["bottleneck"] == summary.bottleneck
    assert times["bottleneck"] in times["stages"]
    assert set(times["stages"]) == {"prepare", "infer", "finish"}  # nothing was refined


def clip_predictor(model: BrightPixels | None = None) -> ClipPredictor:
    return ClipPredictor(None, PerFrame(model or BrightPixels()), device="cpu")


def test_clips_are_written_with_their_tracks_and_counted_in_frames(clips: Path, tmp_path: Path) -> None:
    frames: list[int] = []
    sources = find_clips(clips)
    summary = extract(clip_predictor(), sources, store(tmp_path / "out", clips=True), on_progress=frames.append)
    assert (summary.items, summary.frames, summary.objects, sum(frames)) == (3, 12, 3, 12)
    for source in sources:
        for frame in source.frames:
            labels = np.asarray(Image.open(tmp_path / "out" / "labels" / source.name / f"{frame.path.stem}.png"))
            np.testing.assert_array_equal(labels > 0, np.asarray(Image.open(frame.path)).max(axis=2) > 100)
        assert (tmp_path / "out" / "overlays" / f"{source.name}.mp4").stat().st_size > 0
        assert (tmp_path / "out" / "overlays" / f"{source.name}.jpg").stat().st_size > 0
    tracks = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert [video["name"] for video in tracks["videos"]] == ["a", "b/x", "c"]


@pytest.mark.parametrize("stop_after", [0, 5, 8])
def test_clips_that_were_finished_before_an_interrupt_are_kept(clips: Path, tmp_path: Path, stop_after: int) -> None:
    sources = find_clips(clips)
    extract(clip_predictor(), sources, store(tmp_path / "whole", clips=True))
    frames: list[int] = []

    def interrupt(count: int) -> None:
        frames.append(count)
        if sum(frames) > stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(clip_predictor(), sources, store(tmp_path / "out", clips=True), on_progress=interrupt)
    model = BrightPixels()
    summary = extract(clip_predictor(model), sources, store(tmp_path / "out", clips=True))
    assert summary.skipped == stop_after // 4
    assert model.inferred == 4 * summary.items
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_clip_with_an_unreadable_frame_is_done_and_incomplete(clips: Path, tmp_path: Path) -> None:
    (clips / "c" / "00001.png").write_bytes(b"nothing")
    results, sources = store(tmp_path / "out", clips=True), find_clips(clips)
    summary = extract(clip_predictor(), sources, results)
    assert (summary.items, summary.failures, summary.incomplete) == (3, 0, 1)
    (record,) = results.incomplete(sources)
    assert list(record.unreadable) == ["00001"]
    assert record.tracks().present().tolist() == [[True, False, True, True]]
    again = extract(clip_predictor(), sources, store(tmp_path / "out", clips=True))
    assert (again.skipped, again.incomplete) == (3, 1)  # still said, until the frame is replaced


def test_a_clip_that_fails_costs_only_itself(clips: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 9, 9)).save(clips / "a" / "00002.png")
    results, sources = store(tmp_path / "out", clips=True), find_clips(clips)
    summary = extract(clip_predictor(), sources, results)
    assert (summary.items, summary.failures) == (2, 1)
    (record,) = results.failures(sources)
    assert record.name == "a"
    assert "00002" in (record.error or "")
