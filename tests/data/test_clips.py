"""A clip gives the frames of a folder, a dataset or a video by index, and names those that it cannot give."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from eigenseg.data import Clip, ClipSource, ImageSource, UnreadableFrame, open_clip, read_image, video_reader
from eigenseg.data.video_files import write_video


def numbered(count: int, height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    """(T, H, W, 3); frame i is filled with 20 i."""
    return np.broadcast_to(20 * np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3)).copy()


def write(folder: Path, frames: NDArray[np.uint8], name: str = "{:05d}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / name.format(i)), frame)
    return folder


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_folder_is_a_clip_of_its_images(count: int, tmp_path: Path) -> None:
    frames = numbered(count)
    clip = open_clip(write(tmp_path / "dog", frames))
    assert (clip.name, len(clip), clip.image_size, clip.frame_rate) == ("dog", count, (12, 16), None)
    assert clip.frame_names == tuple(f"{i:05d}" for i in range(count))
    for i in range(count):
        np.testing.assert_array_equal(clip[i], frames[i])
        np.testing.assert_array_equal(clip[i - count], frames[i])
    for index in (count, -count - 1):
        with pytest.raises(IndexError, match=f"clip dog has {count} frames, got index {index}"):
            clip[index]


def test_frames_are_in_order_of_their_numbers_and_hidden_files_are_none(tmp_path: Path) -> None:
    write(tmp_path, numbered(12), "f{}.png")
    (tmp_path / ".f3.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    write(tmp_path / "sub", numbered(2))
    clip = open_clip(tmp_path)
    assert clip.frame_names == tuple(f"f{i}" for i in range(12))
    assert [int(image[0, 0, 0]) for image in clip] == [20 * i for i in range(12)]


def test_images_that_differ_in_their_suffix_alone_keep_it(tmp_path: Path) -> None:
    write(tmp_path, numbered(2), "{}.png")
    write(tmp_path, numbered(1), "{}.bmp")
    assert open_clip(tmp_path).frame_names == ("0.bmp", "0.png", "1.png")


def test_a_range_of_frames_is_that_of_a_slice() -> None:
    frames = numbered(9)
    clip = Clip.from_array(frames, "a", 5.0)
    for start, stop in itertools.product((0, 1, 4, 9, 11, -2), (None, 0, 3, 9, 20, -1)):
        expected = frames[start:stop]
        given = list(clip.frames(start, stop))
        assert len(given) == len(expected)
        assert all((one == other).all() for one, other in zip(given, expected, strict=True))
    assert (clip.name, clip.frame_rate, clip.image_size) == ("a", 5.0, (12, 16))


def test_a_frame_may_be_drawn_on_without_changing_the_clip() -> None:
    clip = Clip.from_array(numbered(2))
    clip[1][:] = 255
    assert clip[1].max() == 20


@pytest.mark.parametrize("position", [0, 2, 4])
def test_a_damaged_image_is_an_unreadable_frame_and_the_others_are_read(position: int, tmp_path: Path) -> None:
    frames = numbered(5)
    write(tmp_path / "a", frames, "{:05d}.jpg")
    damaged = tmp_path / "a" / f"{position:05d}.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    clip = open_clip(tmp_path / "a")
    iterator, given = clip.frames(), []
    for i in range(5):
        if i == position:
            with pytest.raises(UnreadableFrame, match=f"frame {position:05d} of clip a cannot be read: {damaged} cannot"):
                next(iterator)
        else:
            given.append((i, next(iterator)))
    assert next(iterator, None) is None
    assert all(np.abs(image.astype(int) - frames[i]).max() < 4 for i, image in given)


def test_frames_of_a_dataset_bear_their_stems_and_may_be_absent(tmp_path: Path) -> None:
    write(tmp_path / "images", numbered(3))
    frames = tuple(ImageSource(tmp_path / "images" / f"{i:05d}.png", f"dog/{i:05d}.jpg") for i in range(4))
    clip = open_clip(ClipSource(tmp_path / "images", "davis/dog", frames))
    assert (clip.name, clip.frame_names) == ("davis/dog", ("00000", "00001", "00002", "00003"))
    with pytest.raises(UnreadableFrame, match=r"frame 00003 of clip davis/dog cannot be read: no such image: .*00003\.png"):
        clip[3]


def test_the_first_readable_frame_decides_the_size_and_one_of_another_size_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", numbered(4))
    cv2.imwrite(str(tmp_path / "a" / "00002.png"), np.zeros((12, 17, 3), np.uint8))
    (tmp_path / "a" / "00000.png").write_bytes(b"no image")
    clip = open_clip(tmp_path / "a")
    assert clip.image_size == (12, 16)
    with pytest.raises(ValueError, match="frame 00002 of clip a has 17 x 12 pixels, the clip 16 x 12") as caught:
        clip[2]
    assert not isinstance(caught.value, UnreadableFrame)
    assert clip[3].max() == 60


def test_a_video_file_is_a_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "dog.mp4", numbered(7), 12.0)
    clip = open_clip(str(tmp_path / "dog.mp4"))
    assert (clip.name, len(clip), clip.image_size, clip.frame_rate) == ("dog.mp4", 7, (12, 16), 12.0)
    assert clip.frame_names[::6] == ("00000", "00006")
    np.testing.assert_array_equal(clip[-2], clip[5])
    assert all(np.abs(image.astype(int) - 20 * i).max() < 4 for i, image in enumerate(clip))
    assert open_clip(ClipSource(tmp_path / "dog.mp4", "animals/dog.mp4")).name == "animals/dog.mp4"


def test_a_damaged_frame_of_a_video_is_unreadable(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(9), 12.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.endswith(packets[-1])
    (tmp_path / "a.mp4").write_bytes(content[: -len(packets[-1])] + bytes(len(packets[-1])))
    clip = open_clip(tmp_path / "a.mp4")
    assert len(clip) == 9
    assert all(np.abs(clip[i].astype(int) - 20 * i).max() < 4 for i in range(8))
    with pytest.raises(UnreadableFrame, match=r"frame 00008 of clip a\.mp4 cannot be read: its data is damaged"):
        clip[8]


def test_a_video_that_is_gone_fails_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_reader, "CACHE_BYTES", 1)  # so that going back opens the file again
    write_video(tmp_path / "a.mp4", numbered(3), 12.0)
    clip = open_clip(tmp_path / "a.mp4")
    clip[2]
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.mp4"):
        clip[0]


def test_eight_threads_read_frames_of_a_folder_and_of_a_video(tmp_path: Path) -> None:
    frames = numbered(12)
    write_video(tmp_path / "a.mp4", frames, 12.0)
    for clip in (open_clip(write(tmp_path / "a", frames)), open_clip(tmp_path / "a.mp4")):
        with ThreadPoolExecutor(8) as threads:
            for i, image in enumerate(threads.map(clip.__getitem__, [*range(12)] * 5)):
                assert np.abs(image.astype(int) - frames[i % 12]).max() < 4


def test_what_is_no_clip_is_rejected_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "above" / "below", numbered(2))
    write(tmp_path, numbered(1), "one.png")
    (tmp_path / "bad").mkdir()
    for i in range(3):
        (tmp_path / "bad" / f"{i}.jpg").write_bytes(b"x")
    (tmp_path / "text.mp4").write_text("x" * 1000)
    for name, message in {
        "empty": "folder .*empty holds no image; a clip is a folder of frames",
        "above": "folder .*above holds no image",
        "one.png": r"one\.png is an image; a clip is a video file or a folder of frames",
        "bad": "bad: none of its 3 frames can be read",
        "text.mp4": r"text\.mp4 is not a video",
    }.items():
        with pytest.raises(ValueError, match=message):
            open_clip(tmp_path / name)
    for name in ("nowhere", "nowhere.mp4", "nowhere.png"):
        with pytest.raises(FileNotFoundError, match=name):
            open_clip(tmp_path / name)


def test_arrays_and_names_are_checked() -> None:
    for frames, error, message in (
        (np.zeros((2, 4, 4, 3)), TypeError, r"frames must be a uint8 array \(T, H, W, 3\), got float64"),
        ([1, 2], TypeError, "got list"),
        (np.zeros((4, 4, 3), np.uint8), ValueError, r"at least one frame, got \(4, 4, 3\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, r"got \(0, 4, 4, 3\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), ValueError, r"got \(2, 4, 4, 4\)"),
    ):
        with pytest.raises(error, match=message):
            Clip.from_array(frames)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame_names of clip a must be unique, got 'x' twice"):
        Clip("a", ("x", "y", "x"), (4, 4), None, lambda index: np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="clip a has no frame"):
        Clip("a", (), (4, 4), None, lambda index: np.zeros((4, 4, 3), np.uint8))


def test_a_sequence_of_davis_is_read_as_its_images(test_data: Path) -> None:
    folder = test_data / "davis" / "JPEGImages" / "480p" / "libby"
    clip = open_clip(folder)
    assert (len(clip), clip.image_size, clip.frame_names[-1]) == (49, (480, 854), "00048")
    np.testing.assert_array_equal(clip[30], read_image(folder / "00030.jpg"))


def test_a_clip_is_printed_in_one_line() -> None:
    frames = np.zeros((3, 4, 6, 3), np.uint8)
    assert repr(Clip.from_array(frames, frame_rate=29.97)) == "Clip('clip', 3 frames of 4 x 6 (H x W), 29.97 frames/s)"
    assert repr(Clip.from_array(frames, "walk")) == "Clip('walk', 3 frames of 4 x 6 (H x W))"
