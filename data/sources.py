"""What an input names: images, and clips as video files or folders of frames, in a file, a folder, a glob or a list."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eigenseg.data.images import HEIF_SUFFIXES, heif_is_readable

logger = logging.getLogger(__name__)

_CAMERA = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".avif", ".jp2")
_OTHER = (".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
IMAGE_SUFFIXES = frozenset(_CAMERA + _OTHER + (HEIF_SUFFIXES if heif_is_readable() else ()))
# Images, too, but of formats that are not read: a user who has some of them in a folder wants to know.
_RAW = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw", ".raw")
_UNREAD = (
    *HEIF_SUFFIXES,
    ".jxl",
    ".jxr",
    ".j2k",
    ".jpx",
    ".psd",
    ".xcf",
    ".svg",
    ".exr",
    ".hdr",
    ".pfm",
    ".tga",
    ".ico",
    ".dcm",
)
UNREAD_SUFFIXES = frozenset((*_RAW, *_UNREAD)) - IMAGE_SUFFIXES
# Without .ts, which is TypeScript more often than a transport stream.
_RECORDED = (".mp4", ".m4v", ".mov", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".3gp")
VIDEO_SUFFIXES = frozenset((*_RECORDED, ".mkv", ".webm", ".flv", ".ogv"))

Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True)
class ImageSource:
    """One image to process.

    Args:
        path: the file.
        name: its path below the input's root with forward slashes and suffix, unique in one input; output paths mirror it.
    """

    path: Path
    name: str

    def stamp(self) -> list[int] | None:
        """``[size in bytes, time of the last change in ns]``; None if there is no such file."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]


@dataclass(frozen=True)
class ClipSource:
    """One clip to process.

    Args:
        path: a video file, or the folder of the frames.
        name: its path below the input's root with forward slashes, of a video with suffix; unique in one input. The name
            of the folder or file itself if that is the root.
        frames: the images in order; none if ``path`` is a video file.
    """

    path: Path
    name: str
    frames: tuple[ImageSource, ...] = ()

    def stamp(self) -> list[int] | None:
        """Of a video ``[size in bytes, time of the last change in ns]``, of frames ``[count, sum of sizes, latest time]``.

        Frames that do not exist are not counted. None if nothing exists.
        """
        if not self.frames:
            return ImageSource(self.path, self.name).stamp()
        stamps = [stamp for frame in self.frames if (stamp := frame.stamp())]
        return [len(stamps), sum(size for size, _ in stamps), max(time for _, time in stamps)] if stamps else None


@dataclass(frozen=True)
class InputListing:
    """What an input holds, each kind sorted by name.

    Args:
        images: all images, those of the folders of frames too.
        videos: the video files.
        sequences: those of ``folders`` with numbered frames, at least two images whose names are equal but for digits.
        folders: every folder that holds an image directly, as a clip of its images in order of the numbers in their names.
        left_out: files with the suffix of an image whose format is not read; none of those that are named one by one.
    """

    images: list[ImageSource]
    videos: list[ClipSource]
    sequences: list[ClipSource]
    folders: list[ClipSource]
    left_out: Sequence[Path] = ()

    def unread(self) -> str | None:
        """One sentence on ``left_out``; None if there is nothing to say."""
        if not self.left_out:
            return None
        counts = Counter(_suffix(path) for path in self.left_out)
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
        heif = "pip install 'eigenseg[heif]' to read HEIC" if counts.keys() & set(HEIF_SUFFIXES) else ""
        others = "convert them, to PNG for example" if counts.keys() - set(HEIF_SUFFIXES) else ""
        advice = ", ".join(filter(None, (heif, others)))
        one, count = min(self.left_out).name, len(self.left_out)
        which = f", {one}" if count == 1 else f", such as {one}"
        return f"{count} file{'s' * (count > 1)} left out ({kinds}){which}: the format cannot be read; {advice}"


def list_input(source: Source) -> InputListing:
    """List the images and clips of an input.

    A folder is searched recursively (except hidden folders) for files with the suffix of an image or a video; the matches
    of a pattern are filtered by suffix too. A single file, the paths in a ``.txt`` list (one path per line, relative to
    the list; blank lines and ``#`` comments are skipped) and the paths of a sequence are images whatever their suffix,
    unless it is that of a video. A folder that a pattern matches or a list names is a clip of the images directly in it;
    those are not in ``images``. Folders with results of eigenseg (``run.json`` and ``manifest.jsonl``) are skipped. An
    iterator of paths is used up; pass a list to look twice.

    Returns:
        The listing; all its lists may be empty.

    Raises:
        FileNotFoundError: if the path does not exist and is no pattern.
        ValueError: if the input is an empty string or sequence, a folder cannot be read, or a list is not a text file.
        TypeError: if an entry of a sequence is no path.
    """
    paths, root, named = _entries(source)
    folders = {path for path in paths if root is None and path.is_dir()}
    files = [path for path in paths if path not in folders]
    videos = [path for path in files if _suffix(path) in VIDEO_SUFFIXES]
    images = [path for path in files if _suffix(path) in IMAGE_SUFFIXES or (named and _suffix(path) not in VIDEO_SUFFIXES)]
    base = root or _common([*images, *videos, *folders])
    # Names of images that match a pattern start below their own common folder, whatever else matches.
    listed = _named(images, base if named or root else _common(images))
    clips = _folder_clips(listed, folders, base)
    sequences = [clip for clip in clips if _numbered([frame.path.name for frame in clip.frames])]
    files_as_clips = [ClipSource(video.path, video.name) for video in _named(videos, base)]
    left_out = () if named else tuple(path for path in files if _suffix(path) in UNREAD_SUFFIXES)
    return InputListing(listed, files_as_clips, sequences, clips, left_out)


def find_images(source: Source, listing: InputListing | None = None) -> list[ImageSource]:
    """List the images of an input, sorted by name, as ``list_input``; every path of a list or sequence is an image.

    Args:
        source: a path, pattern or list, see ``list_input``.
        listing: of this source, if there is one already.

    Raises:
        FileNotFoundError: if the path does not exist or nothing matches.
        ValueError: if there is no image, or a video is given.
    """
    paths = _listed(source)
    if paths:
        return _named(paths, _common(paths))
    if paths is not None:
        raise ValueError(f"{source} lists no image; write one path per line")
    given = list_input(source) if listing is None else listing
    unread = given.unread()
    if given.images:
        if listing is None and unread:  # otherwise whoever made the listing says it
            logger.warning("%s", unread)
        return given.images
    assert isinstance(source, (str, os.PathLike))
    text, path = os.fspath(source), Path(source)
    if path.is_dir():
        raise ValueError(unread or f"folder {text} holds no image (looked in all subfolders for {_suffixes()})")
    if path.is_file():
        raise ValueError(
            f"{text} is a video, not an image; input_kind=clips or a video method, such as method=per_frame, reads it "
            "(in Python ClipPredictor)"
        )
    if unread:
        raise ValueError(unread)
    raise FileNotFoundError(f"pattern {text} matches no image ({len(glob.glob(text, recursive=True))} other matches)")


def as_paths(source: Source) -> Source:
    """The input in a form that can be looked at twice: an iterator becomes a list."""
    return list(source) if isinstance(source, Iterator) else source


def list_images(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The images directly in a folder, sorted by the numbers in their names; none if there is no folder."""
    if not folder.is_dir():
        return []
    images = [path for path in folder.iterdir() if _suffix(path) in suffixes and not path.name.startswith(".")]
    return sorted(images, key=lambda path: in_order(path.name))


def in_order(name: str) -> tuple[Any, ...]:
    """A sort key by which ``frame_9`` comes before ``frame_10``, with or without leading zeros."""
    parts = re.split(r"([0-9]+)", name)
    return (*((text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], "-1"], strict=True)), name)


def holds_results(folder: Path) -> bool:
    """Whether eigenseg wrote its results into this folder."""
    return (folder / "run.json").is_file() and (folder / "manifest.jsonl").is_file()


def _entries(source: Source) -> tuple[list[Path], Path | None, bool]:
    """The paths of an input, the folder that was searched for them if any, and whether each path was given by name."""
    paths = _listed(source)
    if paths is not None:
        return paths, None, True
    assert isinstance(source, (str, os.PathLike))
    text, path = os.fspath(source), Path(source)
    if path.is_dir():
        return list(_walk(path)), path, False
    if path.is_file():
        return [path], None, True
    if path.exists():  # reading a pipe would wait for ever
        raise ValueError(f"{text} is no regular file, expected an image, a video, a folder or a .txt list")
    if not glob.has_magic(text):
        raise FileNotFoundError(f"no such file or folder: {text}")
    matches = sorted((Path(match) for match in glob.glob(text, recursive=True)), key=lambda match: len(match.parts))
    matches = [path for path in matches if path.exists() and not any(map(holds_results, (path, *path.parents)))]
    # ** may reach a file in several ways, also through a loop of links; the shortest path is kept.
    unique = {(os.path.realpath(match.parent), match.name): match for match in reversed(matches)}
    return list(unique.values()), None, False


def _listed(source: Source) -> list[Path] | None:
    """The paths of a sequence or a text file; None if the input is neither."""
    if not isinstance(source, (str, os.PathLike)):
        paths = list(source)
        if not paths:
            raise ValueError("input is an empty list; give at least one path")
        for entry in paths:
            if not isinstance(entry, (str, os.PathLike)):
                raise TypeError(f"input must hold paths, got {type(entry).__name__}; predict takes images in memory")
        return [Path(entry) for entry in paths]
    if not os.fspath(source):
        raise ValueError("input is empty; it must be an image, a folder, a glob pattern or a .txt list of paths")
    path = Path(source)
    if path.suffix.lower() != ".txt" or not path.is_file():
        return None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a UTF-8 text file with one path per line") from None
    return [path.parent / line for line in lines if line and not line.startswith("#")]


def _folder_clips(images: Iterable[ImageSource], folders: Iterable[Path], root: Path) -> list[ClipSource]:
    """A clip for each folder that holds some of the images, and for each of the folders that holds any."""
    groups: dict[Path, list[ImageSource]] = {}
    for image in images:
        groups.setdefault(Path(os.path.abspath(image.path.parent)), []).append(image)
    for folder in folders:
        groups[Path(os.path.abspath(folder))] = _named(list_images(folder), root)
    clips: dict[str, ClipSource] = {}
    for folder, frames in sorted(groups.items(), reverse=True):  # the root comes last
        name = Path(os.path.relpath(folder, root)).as_posix()
        name = folder.name if name == "." else name
        while name in clips:  # a subfolder may have the name of the root
            name += "_"
        frames.sort(key=lambda frame: in_order(frame.path.name))
        if frames:
            clips[name] = ClipSource(frames[0].path.parent, name, tuple(frames))
    return [clip for _, clip in sorted(clips.items())]


def _numbered(names: Sequence[str]) -> bool:
    return len(names) >= 2 and len({re.sub("[0-9]+", "0", name) for name in names}) == 1


def _common(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([Path(os.path.abspath(path)).parent for path in paths])) if paths else Path()


def _named(paths: Iterable[Path], root: Path) -> list[ImageSource]:
    names = {Path(os.path.relpath(path, root)).as_posix(): path for path in paths}
    return [ImageSource(path, name) for name, path in sorted(names.items())]


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        raise ValueError(f"folder {error.filename} cannot be read: {error.strerror}")

    for current, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(current)
        # A link to a parent folder would be walked forever.
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if not holds_results(Path(current, name))]
        yield from (Path(current, name) for name in files if not name.startswith("."))


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))
