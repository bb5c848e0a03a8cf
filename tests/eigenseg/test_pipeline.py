"""Every image has its own outcome, in order, whatever happens to the others; a stopped run continues exactly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenseg.data import ImageSource, Instances, find_images
from eigenseg.data.files import OutputError
from eigenseg.data.images import ImageArray
from eigenseg.data.results.store import ResultFolder
from eigenseg.pipeline import extract, predict_sources

RUN = {"identity": {"method": "test"}}


def bright_pixels(images: Sequence[ImageArray]) -> list[Instances]:
    """A method whose result can be recognized: everything brighter than 100; black images are an error."""
    results = []
    for image in images:
        if image.max() == 0:
            raise ValueError("a black image")
        mask = image.max(axis=2) > 100
        box = np.array([[0, 0, image.shape[1], image.shape[0]]], dtype=np.float32)
        results.append(Instances(mask[None], np.array([0.5], dtype=np.float32), box, mask.shape))
    return results


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(7):
        path = folder / ("left" if i % 2 else "right") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(1, 255, (10 + i, 20, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the ones that hold times."""
    names = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.jsonl", "run.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_outcomes_keep_the_order_and_equal_single_predictions(photos: Path, batch_size: int, workers: int) -> None:
    sources = find_images(photos)
    outcomes = list(predict_sources(bright_pixels, sources, batch_size, workers))
    assert [outcome.source for outcome in outcomes] == sources
    for outcome in outcomes:
        pixels = np.asarray(Image.open(outcome.source.path))
        assert outcome.instances is not None
        np.testing.assert_array_equal(outcome.instances.masks[0], pixels.max(axis=2) > 100)


def test_failures_of_reading_and_of_predicting_stay_with_their_images(photos: Path) -> None:
    (photos / "left" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    Image.new("RGB", (8, 8)).save(photos / "right" / "black.png")
    outcomes = {o.source.name: o for o in predict_sources(bright_pixels, find_images(photos), batch_size=9)}
    assert "broken.png" in str(outcomes.pop("left/broken.png").error)
    assert str(outcomes.pop("right/black.png").error) == "a black image"
    assert len(outcomes) == 7
    assert all(outcome.error is None for outcome in outcomes.values())


def test_a_bug_in_a_method_is_recorded_with_its_type_and_leaves_its_traceback(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(images: Sequence[ImageArray]) -> list[Instances]:
        raise KeyError("missing")

    folder = ResultFolder(tmp_path / "out", RUN)
    summary = extract(buggy, find_images(photos), folder)
    assert summary.failures == 7
    assert folder.log.records["left/1.png"]["error"] == "KeyError: 'missing'"
    assert "Traceback" in caplog.text


def test_a_second_run_does_nothing(photos: Path, tmp_path: Path) -> None:
    out, sources = tmp_path / "out", find_images(photos)
    extract(bright_pixels, sources, ResultFolder(out, RUN))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def never(images: Sequence[ImageArray]) -> list[Instances]:
        raise AssertionError("nothing was left to do")

    summary = extract(never, sources, ResultFolder(out, RUN))
    assert (summary.images, summary.failures, summary.skipped) == (0, 0, 7)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("stop_after", [0, 1, 4, 6])
def test_an_interrupted_run_continues_to_what_an_undisturbed_one_writes(
    photos: Path, tmp_path: Path, stop_after: int
) -> None:
    sources = find_images(photos)
    extract(bright_pixels, sources, ResultFolder(tmp_path / "whole", RUN))
    seen: list[ImageSource] = []

    def interrupt(source: ImageSource) -> None:
        seen.append(source)
        if len(seen) > stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(bright_pixels, sources, ResultFolder(tmp_path / "out", RUN), batch_size=2, on_outcome=interrupt)
    summary = extract(bright_pixels, sources, ResultFolder(tmp_path / "out", RUN))
    assert summary.skipped == stop_after + 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_failed_image_is_tried_again_and_then_counts_as_done(photos: Path, tmp_path: Path) -> None:
    broken = photos / "left" / "1.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:40])
    assert extract(bright_pixels, find_images(photos), ResultFolder(tmp_path / "out", RUN)).failures == 1
    assert len(json.loads((tmp_path / "out" / "instances.json").read_text())["images"]) == 6
    broken.write_bytes(good)
    summary = extract(bright_pixels, find_images(photos), ResultFolder(tmp_path / "out", RUN))
    assert (summary.images, summary.failures, summary.skipped) == (1, 0, 6)
    assert len(json.loads((tmp_path / "out" / "instances.json").read_text())["images"]) == 7


def test_a_full_disk_stops_the_run_at_once_and_keeps_what_was_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sources = ResultFolder(tmp_path / "out", RUN), find_images(photos)
    write, calls = ResultFolder.add, []

    def full(self: ResultFolder, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise OutputError(28, "cannot write overlays: the disk is full")
        write(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ResultFolder, "add", full)
    with pytest.raises(OutputError, match="the disk is full"):
        extract(bright_pixels, sources, folder)
    monkeypatch.undo()
    assert extract(bright_pixels, sources, ResultFolder(tmp_path / "out", RUN)).skipped == 3


def test_an_image_whose_result_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b" * 247 + ".png"):  # with .png the label's name has 255 bytes, with .tmp or more too many
        Image.new("RGB", (9, 9), (200, 0, 9)).save(tmp_path / "photos" / name)
    Image.new("RGB", (9, 9), (200, 0, 9)).save(tmp_path / "photos" / ("c" * 251 + ".png"))
    folder = ResultFolder(tmp_path / "out", RUN)
    summary = extract(bright_pixels, find_images(tmp_path / "photos"), folder)
    assert (summary.images, summary.failures) == (2, 1)
    assert "the name is too long for this file system" in folder.log.records["c" * 251 + ".png"]["error"]


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 1), (1, 0)])
def test_numbers_that_are_not_positive_are_rejected(batch_size: int, workers: int) -> None:
    with pytest.raises(ValueError, match="batch_size and workers must be integers of at least 1"):
        predict_sources(bright_pixels, [], batch_size, workers)
