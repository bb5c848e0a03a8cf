"""Input images: a file, a folder with its subfolders, a glob pattern, or a text file that lists paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CAMERA = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".avif", ".jp2")
_OTHER = (".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
IMAGE_SUFFIXES = frozenset(_CAMERA + _OTHER)
VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"))


@dataclass(frozen=True)
class ImageSource:
    """One image to process.

    Args:
        path: the file.
        name: its path below the input's root with forward slashes and suffix, unique in one input; output paths mirror it.
    """

    path: Path
    name: str


def find_images(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[ImageSource]:
    """List the images of an input, sorted by name.

    A folder is searched recursively (except hidden folders) for files with an image suffix; the matches of a pattern are
    filtered by suffix too. A single file, the paths in a ``.txt`` list (one path per line, relative to the list; blank
    lines and ``#`` comments are skipped) and the paths of a sequence may have any suffix. Folders with results of eigenseg
    (``run.json`` and ``manifest.jsonl``) are skipped, so that results inside the input are not read again.

    Raises:
        FileNotFoundError: if the path does not exist or nothing matches.
        ValueError: if there is no image, or a video is given.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        if not source:
            raise ValueError("input is an empty list; give at least one path")
        return _named([Path(path) for path in source])
    text, path = os.fspath(source), Path(source)
    if not text:
        raise ValueError("input is empty; it must be an image, a folder, a glob pattern or a .txt list of paths")
    if path.is_dir():
        images = [entry for entry in _walk(path) if entry.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise ValueError(f"folder {text} holds no image (looked in all subfolders for {_suffixes()})")
        return _named(images, root=path)
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"{text} is a video; this version reads images, extract the frames into a folder first")
        return _from_list(path) if path.suffix.lower() == ".txt" else [ImageSource(path, path.name)]
    if glob.has_magic(text):
        matches = sorted((Path(match) for match in glob.glob(text, recursive=True)), key=lambda match: len(match.parts))
        images = [match for match in matches if match.is_file() and match.suffix.lower() in IMAGE_SUFFIXES]
        images = [match for match in images if not any(holds_results(parent) for parent in match.parents)]
        # ** may reach a file in several ways, also through a loop of links; the shortest path is kept.
        images = list({(os.path.realpath(path.parent), path.name): path for path in reversed(images)}.values())
        if not images:
            raise FileNotFoundError(f"pattern {text} matches no image ({len(matches)} other matches)")
        return _named(images)
    raise FileNotFoundError(f"no such file or folder: {text}")


def holds_results(folder: Path) -> bool:
    """Whether eigenseg wrote its results into this folder."""
    return (folder / "run.json").is_file() and (folder / "manifest.jsonl").is_file()


def _from_list(path: Path) -> list[ImageSource]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a UTF-8 text file with one path per line") from None
    images = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not images:
        raise ValueError(f"{path} lists no image; write one path per line")
    return _named(images)


def _named(paths: list[Path], root: Path | None = None) -> list[ImageSource]:
    if root is None:
        root = Path(os.path.commonpath([Path(os.path.abspath(path)).parent for path in paths]))
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


def _suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))
