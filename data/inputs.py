"""Which of the images and clips that an input holds are processed, as the method and the user ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from eigenseg.data.checks import check_choice
from eigenseg.data.sources import ClipSource, ImageSource, InputListing, Source, find_images, list_input

InputKind = Literal["auto", "images", "clips"]


@dataclass(frozen=True)
class Inputs:
    """What to process.

    Args:
        sources: all images or all clips.
        clips: whether they are clips.
        notes: what a user might not expect, in sentences.
    """

    sources: Sequence[ImageSource] | Sequence[ClipSource]
    clips: bool
    notes: tuple[str, ...] = ()


def find_clips(source: Source, every_folder: bool = False) -> list[ClipSource]:
    """List the clips of an input, sorted by name: video files, and folders of numbered frames.

    Args:
        source: a video, a folder of frames, a folder that holds such (with its subfolders), a glob pattern or a .txt list.
        every_folder: take every folder that holds images for a clip, whatever their names.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there is no clip.
    """
    return _clips_of(source, list_input(source), every_folder)


def choose_inputs(source: Source, kind: InputKind, video_method: bool) -> Inputs:
    """Choose what a method processes.

    A video method takes the clips. An image method takes the images, of a folder of frames too; with
    ``kind="clips"``, or where there are only videos, it takes the clips, and its objects are to be linked over time.

    Args:
        source: a path, pattern or list, see ``list_input``.
        kind: ``"images"``, ``"clips"`` (then every folder of images is a clip), or ``"auto"``.
        video_method: whether the method is one of clips.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there is nothing of this kind.
    """
    check_choice("input_kind", kind, get_args(InputKind))
    if video_method and kind == "images":
        raise ValueError("input_kind=images does not go with a video method; use auto or clips, or an image method")
    listing = list_input(source)
    if video_method or kind == "clips" or (kind == "auto" and listing.videos and not listing.images):
        clips = _clips_of(source, listing, every_folder=kind == "clips")
        frames = {frame.path for clip in clips for frame in clip.frames}
        left = [image for image in listing.images if image.path not in frames]
        return Inputs(
            clips, True, _left_out(len(left), "image", "input_kind=clips takes every folder of images for a clip")
        )
    images = find_images(source, listing)
    return Inputs(images, False, _left_out(len(listing.videos), "video", "input_kind=clips reads them"))


def _clips_of(source: Source, listing: InputListing, every_folder: bool) -> list[ClipSource]:
    clips = [*listing.videos, *(listing.folders if every_folder else listing.sequences)]
    if not clips:
        raise ValueError(_no_clip(source, listing))
    return sorted(clips, key=lambda clip: clip.name)


def _left_out(count: int, noun: str, advice: str) -> tuple[str, ...]:
    return (f"{count} {noun}{'s' * (count != 1)} left out; {advice}",) if count else ()


def _no_clip(source: Source, listing: InputListing) -> str:
    images, folders = len(listing.images), len(listing.folders)
    found = f"; it holds {images} image{'s' * (images != 1)}" if images else ""
    advice = ", and input_kind=clips takes its folders for clips" if folders else ""
    advice += "; image methods, such as method=tokencut, take images" if images else ""
    return f"input {source} holds no clip, that is a video or a folder of numbered frames{found}{advice}"
