"""Image methods take images, video methods clips; what is left out is counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenseg.data.inputs import Inputs, choose_inputs, find_clips
from eigenseg.data.video_files import write_video


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (9, 80, 7)).save(path)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two photographs, a folder of three numbered frames, a folder of two photographs, a video."""
    for name in ("a.png", "b.png", "walk/00001.png", "walk/00002.png", "walk/00010.png", "trip/rome.png", "trip/oslo.png"):
        image(tmp_path / "in" / name)
    write_video(tmp_path / "in" / "run.mp4", np.zeros((2, 16, 16, 3), dtype=np.uint8), 10)
    return tmp_path / "in"


def names(inputs: Inputs) -> list[str]:
    return [source.name for source in inputs.sources]


def test_an_image_method_takes_all_images_and_counts_the_videos(mixed: Path) -> None:
    inputs = choose_inputs(mixed, "auto", video_method=False)
    assert not inputs.clips
    assert len(names(inputs)) == 7
    assert inputs.notes == ("1 video left out; input_kind=clips reads them",)
    assert names(choose_inputs(mixed, "images", video_method=False)) == names(inputs)


def test_a_video_method_takes_videos_and_numbered_frames_and_counts_the_images(mixed: Path) -> None:
    inputs = choose_inputs(mixed, "auto", video_method=True)
    assert inputs.clips
    assert names(inputs) == ["run.mp4", "walk"]
    assert [frame.path.name for frame in inputs.sources[1].frames] == ["00001.png", "00002.png", "00010.png"]  # type: ignore[union-attr]
    assert inputs.notes == (
        "4 images left out, such as a.png: they belong to no clip; input_kind=clips takes every folder of images for a "
        "clip",
    )
    for name in ("b.png", "trip/rome.png", "trip/oslo.png"):
        (mixed / name).unlink()
    inputs = choose_inputs(mixed, "auto", video_method=True)
    assert inputs.notes == ("1 image left out, a.png: it belongs to no clip",)


@pytest.mark.parametrize("video_method", [False, True])
def test_as_clips_every_folder_of_images_is_one(mixed: Path, video_method: bool) -> None:
    inputs = choose_inputs(mixed, "clips", video_method)
    assert inputs.clips
    assert names(inputs) == ["in", "run.mp4", "trip", "walk"]
    assert inputs.notes == (
        "2 folders without numbered frames taken for a clip, such as in; input_kind=images and an image method take images "
        "that do not follow each other",
    )
    assert choose_inputs(mixed / "walk", "clips", video_method).notes == ()


def test_a_video_alone_is_a_clip_for_an_image_method_too(mixed: Path) -> None:
    inputs = choose_inputs(mixed / "run.mp4", "auto", video_method=False)
    assert (inputs.clips, names(inputs)) == (True, ["run.mp4"])


def test_a_folder_of_frames_alone_stays_a_folder_of_images_for_an_image_method(mixed: Path) -> None:
    assert not choose_inputs(mixed / "walk", "auto", video_method=False).clips
    inputs = choose_inputs(mixed / "walk", "auto", video_method=True)
    assert (inputs.clips, names(inputs)) == (True, ["walk"])


def test_what_does_not_fit_is_refused_with_what_to_do(mixed: Path) -> None:
    with pytest.raises(ValueError, match="input_kind=images does not go with a video method"):
        choose_inputs(mixed, "images", video_method=True)
    with pytest.raises(ValueError, match="input_kind must be 'auto', 'images' or 'clips', got 'videos'"):
        choose_inputs(mixed, "videos", video_method=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"trip holds no clip.*it holds 2 images, and input_kind=clips takes its folders"):
        choose_inputs(mixed / "trip", "auto", video_method=True)
    with pytest.raises(ValueError, match="is a video"):
        choose_inputs(mixed / "run.mp4", "images", video_method=False)
    (mixed / "empty").mkdir()
    with pytest.raises(
        ValueError,
        match=r"empty holds no clip, that is a video or a folder of numbered frames \(videos end in \.3gp \.avi .*\.mp4 ",
    ):
        find_clips(mixed / "empty")


@pytest.mark.parametrize("video_method", [False, True])
def test_a_folder_is_searched_once(mixed: Path, video_method: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[str] = []
    walk = os.walk

    def counted(folder: Path, **options: Any) -> Any:
        walks.append(str(folder))
        return walk(folder, **options)

    monkeypatch.setattr("eigenseg.data.sources.os.walk", counted)
    choose_inputs(mixed, "auto", video_method)
    assert walks == [str(mixed)]
