"""``eigenseg extract``: masks for images, as a configuration says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eigenseg.cli.console import plural
from eigenseg.cli.predict import dataset_images, predict_into, report_failures
from eigenseg.config.build import build_dataset
from eigenseg.config.compose import job_folder, plain
from eigenseg.data.sources import ImageSource, find_images
from eigenseg.pipeline import Summary
from eigenseg.runtime import limit_threads


def run_extract(config: Any) -> dict[str, Any]:
    """Extract masks as configured (``ExtractConfig``); returns the counts of the summary line.

    Raises:
        ValueError, TypeError, FileNotFoundError: if the configuration is wrong.
        OutputError: if results cannot be written.
    """
    settings = plain(config)
    output = settings["output"]
    root = Path(job_folder(output["dir"]) or os.path.join("outputs", "extract"))
    sources, origin = _find_sources(config, settings, root)
    limit_threads(settings["runtime"]["threads"])
    written = {name: value for name, value in output.items() if name != "dir"}
    summary, folder = predict_into(root, config, sources, origin, written)
    report_failures(folder, sources)
    _print(summary, root, overlays=output["overlays"])
    return {"output": str(root), **vars(summary)}


def _find_sources(config: Any, settings: dict[str, Any], root: Path) -> tuple[list[ImageSource], Any]:
    """The images to process, and where they come from."""
    given = settings["input"]
    if given is None:
        if config.dataset is None:
            raise ValueError("input is missing; say what to read: input=photos/ (image, folder, glob pattern or .txt list)")
        return dataset_images(build_dataset(config)), settings["dataset"]
    if root.exists() and Path(given).exists() and root.samefile(given):
        raise ValueError(f"output.dir is the input folder, {root}; choose another one, such as output.dir={root / 'out'}")
    return find_images(given), os.path.abspath(given)


def _print(summary: Summary, root: Path, overlays: bool) -> None:
    speed = f"{summary.images_per_second:.1f} images/s, " if summary.images else ""
    done = f", {summary.skipped} already done" if summary.skipped else ""
    counts = f"{plural(summary.images, 'image')}, {plural(summary.instances, 'instance')}"
    print(f"{counts}, {speed}{summary.failures} failed{done} -> {root}")
    if overlays and summary.images + summary.skipped:
        print(f"look at {root / 'overlays'}")
