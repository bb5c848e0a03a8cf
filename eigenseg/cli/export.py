"""``eigenseg export``: a result folder as training labels for a detector."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eigenseg.cli.console import plural
from eigenseg.data.files import read_json, write_bytes
from eigenseg.data.results.pseudo_labels import pseudo_labels


def run_export(arguments: Sequence[str]) -> dict[str, Any]:
    """Export as the command line says; returns what was written.

    Raises:
        FileNotFoundError: if there is no result folder.
        ValueError: if its ``instances.json`` cannot be read.
        OutputError: if the file cannot be written.
    """
    options = _parse(arguments)
    source = Path(options.results)
    source = source / "instances.json" if source.is_dir() else source
    if not source.is_file():
        raise FileNotFoundError(f"export: no such results {source}; eigenseg extract writes them")
    labels = pseudo_labels(read_json(source), options.min_score, options.prefix)
    target = Path(options.output)
    write_bytes(target, json.dumps(labels, allow_nan=False).encode() + b"\n")
    print(f"{plural(len(labels['annotations']), 'annotation')} of {plural(len(labels['images']), 'image')} -> {target}")
    return labels


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="eigenseg export",
        description="Write the objects of a result folder as COCO pseudo-labels that the CutLER detector's loader reads.",
    )
    parser.add_argument("results", help="folder of eigenseg extract (or predictions/ of evaluate), or its instances.json")
    parser.add_argument("output", help="the json to write")
    parser.add_argument("--min-score", type=float, default=0.0, help="leave out objects below this score")
    parser.add_argument("--prefix", default="", help="put before every file name, such as a class folder n02111889/")
    return parser.parse_args(arguments)
