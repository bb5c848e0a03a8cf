"""``eigenseg export``: a result folder as training labels for a detector, of images or of videos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eigenseg.cli.console import plural
from eigenseg.data.files import write_bytes
from eigenseg.data.json_files import read_json
from eigenseg.data.results.pseudo_labels import pseudo_labels
from eigenseg.data.results.track_labels import track_labels


def run_export(arguments: Sequence[str]) -> dict[str, Any]:
    """Export as the command line says; returns what was written.

    Raises:
        FileNotFoundError: if there is no result folder.
        ValueError: if its ``instances.json`` or ``tracks.json`` cannot be read, it holds both, or the score is none.
        OutputError: if the file cannot be written.
    """
    options = _parse(arguments)
    if not 0 <= options.min_score <= 1:
        raise ValueError(f"export: --min-score must be in [0, 1], as scores are, got {options.min_score:g}")
    source = _find_results(Path(options.results))
    content = read_json(source)
    of_clips = isinstance(content, dict) and "videos" in content
    try:
        labels = (track_labels if of_clips else pseudo_labels)(content, options.min_score, options.prefix)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    target = Path(options.output)
    write_bytes(target, json.dumps(labels, allow_nan=False).encode() + b"\n")
    inputs = plural(len(labels["videos"]), "video") if of_clips else plural(len(labels["images"]), "image")
    print(f"{plural(len(labels['annotations']), 'annotation')} of {inputs} -> {target}")
    return labels


def _find_results(source: Path) -> Path:
    """The json of a result folder, or the file itself."""
    images, clips = source / "instances.json", source / "tracks.json"
    if images.is_file() and clips.is_file():
        raise ValueError(f"export: {source} holds {images.name} and {clips.name}; name the file to export")
    file = (clips if clips.is_file() else images) if source.is_dir() else source
    if not file.is_file():
        raise FileNotFoundError(f"export: no such results {file}; eigenseg extract writes them")
    return file


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="eigenseg export",
        description="Write the objects of a result folder as COCO pseudo-labels that the CutLER detector's loader reads, "
        "or its tracks as YouTube-VIS pseudo-labels.",
    )
    parser.add_argument("results", help="folder of eigenseg extract (or predictions/ of evaluate), or its json file")
    parser.add_argument("output", help="the json to write")
    parser.add_argument("--min-score", type=float, default=0.0, help="leave out objects and tracks below this score")
    parser.add_argument("--prefix", default="", help="put before every file name, such as a class folder n02111889/")
    return parser.parse_args(arguments)
