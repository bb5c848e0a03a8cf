"""Clips on the command line: videos and folders of frames to tracks, label maps and numbers, whatever stops the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import Run, check_one_error
from numpy.typing import NDArray
from PIL import Image
from toy_clips import BROKEN, disc_frame, write_frames, write_movie

from eigenseg import build_predictor
from eigenseg.data import DAVIS_PALETTE
from eigenseg.data.files import LOCK_FILE
from eigenseg.data.label_maps import read_label_map
from eigenseg.data.palette import write_label_map
from eigenseg.data.results.records import Record

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ["backbone=color_texture", "preprocess.resize=72", "runtime.device=cpu"]
NOTE = "note: TokenCut finds objects image by image; they are linked over the frames by mask overlap (method=per_frame)"


def extract(run: Run, source: str, *more: str, out: str = "out") -> tuple[int, str, str]:
    return run("extract", f"input={source}", *SMALL, f"output.dir={out}", *more)


def evaluate(run: Run, *more: str, out: str = "scores") -> tuple[int, str, str]:
    arguments = ["dataset=davis2017_unsupervised", "dataset.root=DAVIS", "runtime.processes=1", *SMALL]
    return run("evaluate", *arguments, f"output.dir={out}", *more)


def files(folder: Path) -> dict[str, bytes]:
    """All files but those that hold times, and the lock."""
    others = ("manifest.jsonl", "run.json", LOCK_FILE)
    names = (path for path in folder.rglob("*") if path.is_file() and path.name not in others)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names}


def content(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def labels(path: Path) -> NDArray[np.uint8]:
    """An indexed label map in the colors of DAVIS."""
    with Image.open(path) as image:
        assert image.mode == "P"
        palette = image.getpalette()
        assert palette is not None
        np.testing.assert_array_equal(np.reshape(palette, (-1, 3)), DAVIS_PALETTE[: len(palette) // 3])
        return np.asarray(image)


def test_a_video_gives_tracks_labels_overlays_and_a_record(run: Run, tmp_path: Path) -> None:
    write_movie(tmp_path / "clip.mp4", 4)
    code, out, _ = extract(run, "clip.mp4", "method=tokencut")
    assert code == 0
    assert NOTE in out
    assert "1 clip, 4 frames, 1 track, " in out
    assert f"look at {Path('out', 'overlays')}" in out
    tracks = build_predictor("per_frame", backbone="color_texture", device="cpu", overrides=SMALL[1:2])("clip.mp4")
    for t in range(4):
        np.testing.assert_array_equal(labels(tmp_path / f"out/labels/clip.mp4/{t:05d}.png"), tracks.label_map(t))
    written = content(tmp_path / "out" / "tracks.json")
    assert [(video["name"], video["length"]) for video in written["videos"]] == [("clip.mp4", 4)]
    (annotation,) = written["annotations"]
    assert annotation["segmentations"] == [dict(rle) for rle in tracks.masks[0] if rle is not None]
    assert annotation["score"] == pytest.approx(float(tracks.scores[0]))
    with av.open(str(tmp_path / "out/overlays/clip.mp4.mp4")) as video:
        (stream,) = video.streams.video
        assert (stream.width, stream.height, stream.average_rate) == (96, 72, 25)
        assert sum(1 for _ in video.decode(stream)) == 4
    assert np.asarray(Image.open(tmp_path / "out/overlays/clip.mp4.jpg")).std() > 10
    run_json = content(tmp_path / "out" / "run.json")
    assert {"prepare", "infer", "finish"} <= run_json["times"]["frames"]["stages"].keys() | run_json["times"][
        "stages"
    ].keys()
    assert run_json["times"]["bottleneck"]
    code, out, _ = extract(run, "clip.mp4", "method=per_frame", "method.base=tokencut")
    assert (code, "1 already done" in out) == (0, True)  # the same results by another name


def test_a_folder_of_frames_is_a_clip_for_a_video_method_and_images_for_another(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", 3)
    code, out, _ = extract(run, "walk", "method=per_frame")
    assert (code, "note" in out) == (0, False)
    assert "1 clip, 3 frames, 1 track, " in out
    assert sorted(path.name for path in (tmp_path / "out/labels/walk").iterdir()) == [f"{t:05d}.png" for t in range(3)]
    assert (tmp_path / "out/overlays/walk.mp4").is_file()
    assert (tmp_path / "out/overlays/walk.jpg").is_file()
    code, out, _ = extract(run, "walk", "method=tokencut", out="images")
    assert (code, "note" in out) == (0, False)
    assert "3 images, 3 instances, " in out
    assert (tmp_path / "images/labels/00000.png.png").is_file()
    assert not (tmp_path / "images/tracks.json").exists()


def test_input_kind_says_what_a_folder_is(run: Run, tmp_path: Path) -> None:
    for t, name in enumerate(("left.png", "right.png")):
        (tmp_path / "pair").mkdir(exist_ok=True)
        Image.fromarray(disc_frame(t)[0]).save(tmp_path / "pair" / name)
    code, out, _ = extract(run, "pair", "method=tokencut", "input_kind=clips")
    assert code == 0
    assert NOTE in out
    assert "1 clip, 2 frames, 1 track, " in out
    assert sorted(path.name for path in (tmp_path / "out/labels/pair").iterdir()) == ["left.png", "right.png"]
    assert "2 images, 2 instances, " in extract(run, "pair", "method=tokencut", "input_kind=images", out="images")[1]
    code, out, err = extract(run, "pair", "method=per_frame", out="none")
    check_one_error(code, out, err, "input pair holds no clip, that is a video or a folder of numbered frames; it holds 2")
    assert "input_kind=clips takes its folders for clips" in err
    assert "1 clip, 2 frames, " in extract(run, "pair", "method=per_frame", "input_kind=clips", out="clips")[1]


def test_what_a_mixed_folder_leaves_out_is_said(run: Run, tmp_path: Path) -> None:
    write_movie(tmp_path / "mixed" / "a.mp4", 2)
    write_frames(tmp_path / "mixed" / "walk", 2, seed=1)
    Image.fromarray(disc_frame(1)[0]).save(tmp_path / "mixed" / "rex.png")
    code, out, _ = extract(run, "mixed", "method=tokencut")
    assert code == 0
    assert "note: 1 video left out; input_kind=clips reads them" in out
    assert "3 images, 3 instances, " in out
    code, out, _ = extract(run, "mixed", "method=per_frame", out="clips")
    assert code == 0
    assert "note: 1 image left out, rex.png: it belongs to no clip" in out
    assert "2 clips, 4 frames, 2 tracks, " in out
    code, out, _ = extract(run, "mixed", "method=tokencut", "input_kind=clips", out="all")
    assert code == 0
    assert "left out" not in out
    assert "3 clips, 5 frames, 3 tracks, " in out
    names = [video["name"] for video in content(tmp_path / "all" / "tracks.json")["videos"]]
    assert names == ["a.mp4", "mixed", "walk"]


def test_an_unreadable_frame_is_named_until_it_is_replaced(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "clips" / "a", 3)
    write_frames(tmp_path / "clips" / "b", 4, seed=1, broken=(1,))
    code, out, err = extract(run, "clips", "method=per_frame")
    assert code == 1
    assert "2 clips, 7 frames, 2 tracks, " in out
    assert ", 0 failed, 1 incomplete -> out" in out
    assert "incomplete: frame 00001 of clip b cannot be read: " in err
    assert "clip a" not in err
    before = files(tmp_path / "out")
    assert not labels(tmp_path / "out/labels/b/00001.png").any()
    annotation = content(tmp_path / "out" / "tracks.json")["annotations"][1]
    assert [one is not None for one in annotation["segmentations"]] == [True, False, True, True]
    code, out, err = extract(run, "clips", "method=per_frame")
    assert code == 1
    assert "0 clips, 0 frames, 0 tracks, 0 failed, 1 incomplete, 2 already done -> out" in out
    assert "incomplete: frame 00001 of clip b cannot be read: " in err
    assert files(tmp_path / "out") == before
    write_frames(tmp_path / "clips" / "b", 4, seed=1)
    code, out, err = extract(run, "clips", "method=per_frame")
    assert (code, "incomplete" in out + err) == (0, False)
    assert "1 clip, 4 frames, 1 track, " in out
    assert labels(tmp_path / "out/labels/b/00001.png").any()


def test_a_clip_that_cannot_be_read_is_named_and_the_others_come_out(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "clips" / "a", 2)
    write_frames(tmp_path / "clips" / "b", 2, broken=(0, 1))
    (tmp_path / "clips" / "c.mp4").write_bytes(BROKEN)
    code, out, err = extract(run, "clips", "method=per_frame")
    assert code == 1
    assert "1 clip, 2 frames, 1 track, " in out
    assert ", 2 failed -> out" in out
    assert "failed: b: " in err
    assert "failed: c.mp4: " in err
    assert "Traceback" not in err
    assert [video["name"] for video in content(tmp_path / "out" / "tracks.json")["videos"]] == ["a"]


@pytest.mark.parametrize("method", ["tokencut", "per_frame"])
def test_an_empty_folder_is_refused_in_one_sentence(run: Run, tmp_path: Path, method: str) -> None:
    (tmp_path / "void").mkdir()
    code, out, err = extract(run, "void", f"method={method}")
    check_one_error(code, out, err, "void holds no ")
    assert not (tmp_path / "out").exists()


def test_images_are_refused_for_a_video_method(run: Run) -> None:
    code, out, err = extract(run, ".", "method=per_frame", "input_kind=images")
    check_one_error(
        code, out, err, "input_kind=images does not go with a video method; use auto or clips, or an image method"
    )
    code, out, err = extract(run, ".", "input_kind=videos")
    check_one_error(code, out, err, "input_kind must be 'auto', 'images' or 'clips', got 'videos'")


def test_finished_clips_stay_and_new_ones_are_added(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "clips" / "b", 3, seed=1)
    extract(run, "clips", "method=per_frame")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    code, out, _ = extract(run, "clips", "method=per_frame")
    assert code == 0
    assert "0 clips, 0 frames, 0 tracks, 0 failed, 1 already done -> out" in out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    write_frames(tmp_path / "clips" / "a", 3)
    assert "1 clip, 3 frames, 1 track, " in extract(run, "clips", "method=per_frame")[1]
    assert extract(run, "clips", "method=per_frame", out="whole")[0] == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_deleted_files_are_written_again_without_computing(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", 3)
    extract(run, "walk", "method=per_frame")
    before = files(tmp_path / "out")
    (tmp_path / "out/labels/walk/00001.png").unlink()
    (tmp_path / "out/overlays/walk.mp4").unlink()
    code, out, _ = extract(run, "walk", "method=per_frame")
    assert code == 0
    assert "0 clips, 0 frames, 0 tracks, 0 failed, 1 already done -> out" in out
    assert "missing files of 1 clip written from the records" in out
    assert "heatmap" not in out
    assert "note: output.heatmap=true is for images" in extract(run, "walk", "method=per_frame", "output.heatmap=true")[1]
    assert files(tmp_path / "out") == before


def test_a_truncated_video_is_recorded_counted_and_named(run: Run, tmp_path: Path) -> None:
    write_movie(tmp_path / "a.mp4", 40)
    whole = (tmp_path / "a.mp4").read_bytes()
    container = av.open(str(tmp_path / "a.mp4"))
    end = sorted(packet.pos for packet in container.demux() if packet.size)[-10]
    container.close()
    (tmp_path / "a.mp4").write_bytes(whole[:end])
    for counts in ("1 clip, 30 frames, ", "0 clips, 0 frames, 0 tracks, "):  # computed, then already done
        code, out, err = extract(run, "a.mp4", "method=per_frame")
        assert code == 1
        assert counts in out
        assert ", 0 failed, 1 incomplete" in out
        assert "incomplete: a.mp4 is truncated: it should hold 40 frames, 30 are left" in err
    (line,) = (tmp_path / "out/manifest.jsonl").read_bytes().splitlines()
    assert Record.from_line(line).truncated == "a.mp4 is truncated: it should hold 40 frames, 30 are left"
    (tmp_path / "a.mp4").write_bytes(whole)
    code, out, err = extract(run, "a.mp4", "method=per_frame")
    assert (code, "1 clip, 40 frames" in out, "truncated" in out + err) == (0, True, False)


def test_other_settings_and_another_kind_of_input_are_not_continued(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", 2)
    extract(run, "walk", "method=per_frame")
    code, _, err = extract(run, "walk", "method=per_frame", "method.max_gap=1")
    assert code == 2
    assert "Different: method.max_gap (5 before, 1 now)" in err
    assert extract(run, "walk", "method=tokencut", out="images")[0] == 0
    code, _, err = extract(run, "walk", "method=tokencut", "input_kind=clips", out="images")
    assert code == 2
    assert "error: images holds results of another run" in err
    assert "method._target_ (eigenseg.discovery.TokenCut before, eigenseg.video.PerFrame now)" in err
    assert extract(run, "walk", "method=tokencut", "input_kind=clips", "resume=false", out="images")[0] == 0
    assert files(tmp_path / "images").keys() == files(tmp_path / "out").keys()


def test_saliency_of_clips_is_one_map_for_every_frame(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", 2)
    assert extract(run, "walk", "method=per_frame")[0] == 0
    assert extract(run, "walk", "method=per_frame", "output=saliency", "output.masks=true", out="maps")[0] == 0
    for t in range(2):
        shown = labels(tmp_path / f"out/labels/walk/{t:05d}.png") > 0
        for path in (f"saliency/walk/{t:05d}.png", f"masks/walk/1/{t:05d}.png"):
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "maps" / path)), np.where(shown, 255, 0))
    assert {path.partition("/")[0] for path in files(tmp_path / "maps")} == {"saliency", "masks", "tracks.json"}


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of four frames with one annotated object each; the second one's annotation is larger than the disc."""
    root = tmp_path / "DAVIS"
    for i, name in enumerate(("bear", "swan")):
        folder = root / "JPEGImages/480p" / name
        folder.mkdir(parents=True)
        for t in range(4):
            image, disc = disc_frame(t, seed=i)
            Image.fromarray(image).save(folder / f"{t:05d}.jpg", quality=95)
            disc[50:60, :20] |= bool(i)
            write_label_map(root / f"Annotations_unsupervised/480p/{name}/{t:05d}.png", disc.astype(np.uint8))
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("bear\nswan\n")
    return root


def scores(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    read = content(folder / "metrics.json")
    return read["metrics"], read["items"]


def test_methods_are_scored_on_davis_as_the_written_labels_of_an_extract_run(run: Run, davis: Path, tmp_path: Path) -> None:
    code, out, _ = evaluate(run, "method=per_frame")
    assert (code, "note" in out) == (0, False)
    code, out, _ = evaluate(run, "method=tokencut", out="by_image")
    assert code == 0
    assert NOTE in out
    assert extract(run, "DAVIS/JPEGImages/480p", "method=per_frame")[0] == 0
    for name, predictions in (("folder", "out"), ("file", "out/tracks.json"), ("labels", "out/labels")):
        code, out, _ = evaluate(run, f"predictions={predictions}", out=name)
        assert (code, "note" in out) == (0, False)
        assert scores(tmp_path / name) == scores(tmp_path / "scores")
    assert scores(tmp_path / "by_image") == scores(tmp_path / "scores")
    # J by hand: the annotated object and the only track, over all frames.
    for name in ("bear", "swan"):
        ious = []
        for t in range(4):
            mask = read_label_map(tmp_path / f"out/labels/{name}/{t:05d}.png") == 1
            annotation = read_label_map(davis / f"Annotations_unsupervised/480p/{name}/{t:05d}.png") > 0
            ious.append((mask & annotation).sum() / (mask | annotation).sum())
        assert scores(tmp_path / "scores")[1][name]["J"] == pytest.approx(np.mean(ious), abs=1e-9)
        assert 0.2 < np.mean(ious) < 1


def test_an_evaluation_keeps_records_and_writes_no_image_of_them(run: Run, davis: Path, tmp_path: Path) -> None:
    evaluate(run, "method=per_frame")
    predictions = tmp_path / "scores" / "predictions"
    assert {path.name for path in predictions.rglob("*") if path.is_file()} - {LOCK_FILE} == {
        "manifest.jsonl",
        "run.json",
        "tracks.json",
    }
    before = {path: path.stat().st_mtime_ns for path in predictions.iterdir()}
    first = scores(tmp_path / "scores")
    assert evaluate(run, "method=per_frame")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in predictions.iterdir()} == before
    assert evaluate(run, "predictions=scores", out="again")[0] == 0
    assert scores(tmp_path / "again") == scores(tmp_path / "scores") == first


def test_an_unreadable_frame_of_a_dataset_counts_as_empty_and_is_named(run: Run, davis: Path, tmp_path: Path) -> None:
    evaluate(run, "method=per_frame", out="whole")
    (davis / "JPEGImages/480p/bear/00002.jpg").write_bytes(BROKEN)
    code, out, err = evaluate(run, "method=per_frame")
    assert code == 1
    assert "incomplete: frame 00002 of clip bear cannot be read: " in err
    assert "note: 1 clip with unreadable or missing frames, which have no predictions" in out
    whole, damaged = scores(tmp_path / "whole")[1], scores(tmp_path / "scores")[1]
    assert damaged["swan"] == whole["swan"]
    assert 0 < damaged["bear"]["J"] < whole["bear"]["J"]


@pytest.mark.parametrize("predictions", ["out", "out/tracks.json", "out/labels"])
def test_annotated_frames_without_a_prediction_are_an_error_or_counted(
    run: Run, davis: Path, tmp_path: Path, predictions: str
) -> None:
    for name in ("bear", "swan"):
        shutil.copytree(davis / "JPEGImages/480p" / name, tmp_path / "short" / name)
    (tmp_path / "short/swan/00003.jpg").unlink()
    assert extract(run, "short", "method=per_frame", "output.overlays=false")[0] == 0
    code, _, err = evaluate(run, f"predictions={predictions}")
    assert code == 2
    assert "swan: 1 of 4 frames have no prediction, the first is swan/00003.jpg" in err
    code, out, _ = evaluate(run, f"predictions={predictions}", "missing=empty")
    assert code == 0
    assert "note: 1 frame without a prediction, counted as empty" in out


def test_extract_reads_the_clips_of_a_dataset(run: Run, davis: Path, tmp_path: Path) -> None:
    arguments = ["dataset=davis2017_unsupervised", "dataset.root=DAVIS", *SMALL, "output.overlays=false"]
    code, out, _ = run("extract", *arguments, "method=tokencut", "output.dir=out")
    assert code == 0
    assert NOTE in out
    assert "2 clips, 8 frames, 2 tracks, " in out
    assert (tmp_path / "out/labels/swan/00003.png").is_file()


def test_a_video_method_is_refused_on_a_dataset_of_images(run: Run, tmp_path: Path) -> None:
    image, disc = disc_frame(0)
    for folder, pixels in (("photos", image), ("masks", disc.astype(np.uint8) * 255)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "0.png")
    dataset = ["dataset=saliency", "dataset.images=photos", "dataset.masks=masks", *SMALL, "method=per_frame"]
    for command in ("evaluate", "extract"):
        code, out, err = run(command, *dataset, "output.dir=out")
        check_one_error(code, out, err, "PerFrame works on clips, ")
        assert "holds images; choose an image method: method=tokencut" in err


def test_tracks_are_exported_as_labels_of_videos(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "clips" / "a", 3)
    write_movie(tmp_path / "clips" / "b.mp4", 2)
    extract(run, "clips", "method=per_frame")
    code, out, _ = run("export", "out", "labels.json")
    assert code == 0
    assert "2 annotations of 2 videos -> labels.json" in out
    exported, original = content(tmp_path / "labels.json"), content(tmp_path / "out" / "tracks.json")
    assert [video["length"] for video in exported["videos"]] == [3, 2]
    for one, other in zip(exported["annotations"], original["annotations"], strict=True):
        assert one["segmentations"] == other["segmentations"]
    assert run("export", "out/tracks.json", "same.json")[0] == 0
    assert (tmp_path / "same.json").read_bytes() == (tmp_path / "labels.json").read_bytes()
    assert "0 annotations" in run("export", "out", "none.json", "--min-score", "1")[1]
    check_one_error(
        *run("export", "out", "x.json", "--min-score", "2"), "--min-score must be in [0, 1], as scores are, got 2"
    )
    assert not (tmp_path / "x.json").exists()


def test_ctrl_c_keeps_finished_clips(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        write_frames(tmp_path / "clips" / f"{i}", 2, seed=i)
    assert extract(run, "clips", "method=per_frame", out="whole")[0] == 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("eigenseg.pipeline.ResultStore.finish", interrupt)
        code, _, err = extract(run, "clips", "method=per_frame")
    assert code == 130
    assert "stopped; finished items are kept, the same command with the same output.dir resumes" in err
    assert ", 3 already done -> out" in extract(run, "clips", "method=per_frame")[1]
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "eigenseg", "extract", *arguments], cwd=folder)


@pytest.mark.slow
def test_killed_midway_and_rerun_equals_an_undisturbed_run(tmp_path: Path) -> None:
    for i in range(6):
        write_frames(tmp_path / "clips" / f"{i}", 6, seed=i)
        write_movie(tmp_path / "clips" / f"{i}.mp4", 6, seed=i)
    arguments = ["input=clips", "method=per_frame", "output.masks=true", "backbone=color_texture", "runtime.threads=1"]
    assert start([*arguments, "output.dir=whole"], tmp_path).wait() == 0
    assert len(content(tmp_path / "whole" / "tracks.json")["videos"]) == 12
    for done in (1, 5):
        process, manifest = start([*arguments, "output.dir=out"], tmp_path), tmp_path / "out" / "manifest.jsonl"
        while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= done):
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert done <= manifest.read_bytes().count(b"\n") < 12
        assert not (tmp_path / "out" / "tracks.json").exists()
        assert start([*arguments, "output.dir=out"], tmp_path).wait() == 0
        assert files(tmp_path / "out") == files(tmp_path / "whole")
        shutil.rmtree(tmp_path / "out")
