"""Which of the images and clips that an input holds are processed, as the method and the user ask."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from eigenseg.data.checks import check_choice
from eigenseg.data.sources import (
    VIDEO_SUFFIXES,
    ClipSource,
    ImageSource,
    InputListing,
    Source,
    as_paths,
    find_images,
    list_input,
)

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
    source = as_paths(source)
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
    source = as_paths(source)
    listing = list_input(source)
    unread = listing.unread()
    said = (unread,) if unread else ()
    if video_method or kind == "clips" or (kind == "auto" and listing.videos and not listing.images):
        clips = _clips_of(source, listing, every_folder=kind == "clips")
        return Inputs(clips, True, (*_images_left_out(listing, clips), *_unnumbered(listing, clips), *said))
    images = find_images(source, listing)
    videos = f"{_count(listing.videos, 'video')} left out; input_kind=clips reads them"
    return Inputs(images, False, (*((videos,) if listing.videos else ()), *said))


def _clips_of(source: Source, listing: InputListing, every_folder: bool) -> list[ClipSource]:
    clips = [*listing.videos, *(listing.folders if every_folder else listing.sequences)]
    if not clips:
        raise ValueError(_no_clip(source, listing))
    return sorted(clips, key=lambda clip: clip.name)


def _images_left_out(listing: InputListing, clips: Sequence[ClipSource]) -> list[str]:
    frames = {frame.path for clip in clips for frame in clip.frames}
    left = {image.path: image.name for image in listing.images if image.path not in frames}
    if not left:
        return []
    which, belong = (", such as", "they belong") if len(left) > 1 else (",", "it belongs")
    folders = any(sum(frame.path in left for frame in folder.frames) > 1 for folder in listing.folders)
    advice = "; input_kind=clips takes every folder of images for a clip" if folders else ""
    return [f"{_count(left, 'image')} left out{which} {next(iter(left.values()))}: {belong} to no clip{advice}"]


def _unnumbered(listing: InputListing, clips: Sequence[ClipSource]) -> list[str]:
    sequences = {clip.path for clip in listing.sequences}
    names = [clip.name for clip in clips if len(clip.frames) > 1 and clip.path not in sequences]
    if not names:
        return []
    return [
        f"{_count(names, 'folder')} without numbered frames taken for a clip, such as {names[0]}; input_kind=images and an "
        "image method take images that do not follow each other"
    ]


def _count(things: Collection[object], noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def _no_clip(source: Source, listing: InputListing) -> str:
    images, folders = listing.images, listing.folders
    found = f"; it holds {_count(images, 'image')}" if images else ""
    advice = ", and input_kind=clips takes its folders for clips" if folders else ""
    advice += "; image methods, such as method=tokencut, take images" if images else ""
    unread = listing.unread()
    found += f"; {unread}" if unread else ""
    suffixes = f" (videos end in {' '.join(sorted(VIDEO_SUFFIXES))})"
    return f"input {source} holds no clip, that is a video or a folder of numbered frames{found}{advice}{suffixes}"
