"""Clips: the frames of a video file, a folder or a dataset, decoded one by one when they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.images import ImageArray, read_image
from eigenseg.data.sources import IMAGE_SUFFIXES, ClipSource, ImageSource, list_images


class UnreadableFrame(ValueError):  # noqa: N818  # it is no error of the clip, and the other frames are used
    """One frame cannot be decoded; the message names it. The others may still be readable."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one size in order of time. Nothing is decoded before it is asked for.

    ``len(clip)`` is the number of frames, ``clip[i]`` frame i as (H, W, 3) uint8 RGB, and a clip may be iterated. Frames
    may be read from several threads; of a video file, in nearly ascending order, because going back decodes it from its
    beginning.

    Args:
        name: unique in one input.
        frame_names: T unique names.
        image_size: (H, W) in pixels.
        frame_rate: frames per second; None if unknown.
        read: gives frame i, 0 <= i < T, as (H, W, 3) uint8 RGB; must be thread-safe.
        truncated: what a video file lacks at its end, in one sentence; None if nothing.

    ``unreadable`` holds the errors of the frames that were asked for and could not be decoded so far, by name.

    Raises:
        ValueError: if there is no frame, or two have one name.

    Example:
        >>> clip = Clip.from_array(np.zeros((3, 4, 6, 3), np.uint8), frame_rate=25.0)
        >>> len(clip), clip.image_size, clip.frame_names, clip[-1].shape
        (3, (4, 6), ('00000', '00001', '00002'), (4, 6, 3))
    """

    name: str
    frame_names: tuple[str, ...]
    image_size: tuple[int, int]
    frame_rate: float | None
    read: Callable[[int], ImageArray]
    truncated: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.frame_names:
            raise ValueError(f"clip {self.name} has no frame")
        if len(set(self.frame_names)) < len(self.frame_names):
            twice = next(name for name in self.frame_names if self.frame_names.count(name) > 1)
            raise ValueError(f"frame_names of clip {self.name} must be unique, got {twice!r} twice")

    def __repr__(self) -> str:
        height, width = self.image_size
        rate = "" if self.frame_rate is None else f", {self.frame_rate:g} frames/s"
        return f"Clip({self.name!r}, {len(self)} frames of {height} x {width} (H x W){rate})"

    def __len__(self) -> int:
        return len(self.frame_names)

    def __iter__(self) -> Iterator[ImageArray]:
        return self.frames()

    def __getitem__(self, index: int) -> ImageArray:
        """Decode a frame.

        Args:
            index: -T to T - 1; negative ones count from the end.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            IndexError: if there is no such frame.
            UnreadableFrame: if it cannot be decoded.
            ValueError: if its size is another one than the clip's.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {self.name} has {len(self)} frames, got index {index}")
        index = int(index) % len(self)
        try:
            image = self.read(index)
        except UnreadableFrame as error:
            self.unreadable[self.frame_names[index]] = str(error)
            raise
        if image.shape[:2] != self.image_size:
            raise ValueError(
                f"frame {self.frame_names[index]} of clip {self.name} has {image.shape[1]} x {image.shape[0]} pixels, "
                f"the clip {self.image_size[1]} x {self.image_size[0]}; all frames of a clip must have one size"
            )
        return image

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[ImageArray]:
        """Decode the frames ``start`` to ``stop - 1``, by default all, one by one.

        After an exception the iterator goes on with the next frame.
        """
        return map(self.__getitem__, range(*slice(start, stop).indices(len(self))))

    @classmethod
    def from_array(cls, frames: NDArray[np.uint8], name: str = "clip", frame_rate: float | None = None) -> Clip:
        """Make a clip of frames in memory.

        Args:
            frames: (T, H, W, 3) uint8 RGB.
            name: of the clip; the frames are 00000, 00001, ...
            frame_rate: frames per second.

        Raises:
            TypeError: if it is not a uint8 array.
            ValueError: if it has another shape or no frame.
        """
        dtype = getattr(frames, "dtype", type(frames).__name__)
        if dtype != np.uint8:
            raise TypeError(f"frames must be a uint8 array (T, H, W, 3), got {dtype}")
        if frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
            raise ValueError(f"frames must be (T, H, W, 3) with at least one frame, got {frames.shape}")
        size = frames.shape[1], frames.shape[2]
        return cls(name, _numbers(len(frames)), size, frame_rate, lambda index: frames[index].copy())


def open_clip(source: ClipSource | str | os.PathLike[str]) -> Clip:
    """Open a video file or a folder of frames.

    Frames of a folder are in order of the numbers in their names and bear their names without suffix (with it, where two
    differ by nothing else); those of a video file are 00000, 00001, ... The first frame that can be read decides the size.

    Args:
        source: an entry of an ``InputListing``, a video file, or a folder with images directly in it.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if it is no video, an empty folder, or no frame can be decoded.
    """
    if isinstance(source, ClipSource):
        return _from_frames(source) if source.frames else _from_video(source)
    path = Path(source)
    name = Path(os.path.abspath(path)).name
    if path.is_dir():
        frames = tuple(ImageSource(image, image.name) for image in list_images(path))
        if not frames:
            raise ValueError(f"folder {path} holds no image; a clip is a folder of frames (subfolders are not searched)")
        return _from_frames(ClipSource(path, name, frames))
    if not path.exists():
        raise FileNotFoundError(f"no such video or folder of frames: {path}")
    if path.suffix.lower() in IMAGE_SUFFIXES - {".gif"} and path.is_file():
        raise ValueError(f"{path} is an image; a clip is a video file or a folder of frames")
    return _from_video(ClipSource(path, name))


def _from_video(source: ClipSource) -> Clip:
    # Imported here, because images need no video library.
    from eigenseg.data.video_reader import VideoReader

    video = VideoReader(source.path)
    names = _numbers(len(video))

    def read(index: int) -> ImageArray:
        try:
            return video.read(index)
        except ValueError as error:
            raise _unreadable(names[index], source, error) from error

    return replace(_with_size(source, names, video.frame_rate, read), truncated=video.truncated)


def _from_frames(source: ClipSource) -> Clip:
    files = [frame.name.rsplit("/", 1)[-1] for frame in source.frames]
    stems = [Path(file).stem for file in files]
    names = tuple(stems if len(set(stems)) == len(stems) else files)

    def read(index: int) -> ImageArray:
        try:
            return read_image(source.frames[index].path)
        except (ValueError, OSError) as error:
            raise _unreadable(names[index], source, error) from error

    return _with_size(source, names, None, read)


def _with_size(
    source: ClipSource, names: Sequence[str], frame_rate: float | None, read: Callable[[int], ImageArray]
) -> Clip:
    for index in range(len(names)):
        try:
            height, width = read(index).shape[:2]
        except UnreadableFrame as error:
            reason = error
            continue
        return Clip(source.name, tuple(names), (height, width), frame_rate, read)
    raise ValueError(f"{source.path}: none of its {len(names)} frames can be read; the last one: {reason}")


def _unreadable(frame: str, source: ClipSource, error: Exception) -> UnreadableFrame:
    return UnreadableFrame(f"frame {frame} of clip {source.name} cannot be read: {error}")


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(f"{index:05d}" for index in range(count))
