"""``eigenseg extract``: masks for images and clips, as a configuration says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from eigenseg.cli.console import plural
from eigenseg.cli.predict import advice, build_job, check_dataset, dataset_sources, output_writers, predict_into
from eigenseg.config.build import build_dataset, build_method, build_writers
from eigenseg.config.compose import choices, given_settings, job_folder, plain
from eigenseg.data.inputs import Inputs, choose_inputs
from eigenseg.pipeline import Summary
from eigenseg.runtime import limit_threads
from eigenseg.video.method import VideoMethod


def run_extract(config: Any) -> dict[str, Any]:
    """Extract masks as configured (``ExtractConfig``); returns the counts of the summary line.

    Raises:
        ValueError, TypeError, FileNotFoundError: if the configuration is wrong.
        OutputError: if results cannot be written.
    """
    settings = plain(config)
    output = settings["output"]
    root = Path(job_folder(output["dir"]) or os.path.join("outputs", "extract"))
    limit_threads(settings["runtime"]["threads"])
    _check_input(config, settings, root)
    method, writers = build_method(config), build_writers(config)
    inputs, origin = _find_inputs(config, settings, method)
    job = build_job(config, method, inputs.sources, inputs.clips, origin)
    heatmap = ("output.heatmap=true is for images; overlays of clips have none",) if job.clips and output["heatmap"] else ()
    unread = ("input is read instead of the experiment's dataset",) if settings["input"] and settings["dataset"] else ()
    for note in (*inputs.notes, *unread, *job.notes(), *heatmap):
        print(f"note: {note}")
    summary, _ = predict_into(root, config, job, [*output_writers(output, job.clips), *writers])
    _print(summary, root, job.clips, overlays=output["overlays"])
    for note in advice(settings, summary):
        print(f"note: {note}")
    failures = summary.failures + summary.incomplete
    return {"output": str(root), **vars(summary), "failures": failures, "clips": job.clips}


def _check_input(config: Any, settings: dict[str, Any], root: Path) -> None:
    given = settings["input"]
    if given is None and config.dataset is None:
        raise ValueError(
            "input is missing; say what to read: input=photos/ (image, video, folder, glob pattern or .txt list)"
        )
    if given is not None and config.dataset is not None and _chose_dataset(settings):
        raise ValueError(
            f"input={given} and dataset={choices().get('dataset', 'NAME')} both say what to read; give one of them"
        )
    if given is not None and root.exists() and Path(given).exists() and root.samefile(given):
        raise ValueError(f"output.dir is the input folder, {root}; choose another one, such as output.dir={root / 'out'}")


def _chose_dataset(settings: dict[str, Any]) -> bool:
    """Whether the dataset is the user's choice and not an experiment's, which input replaces."""
    typed = (re.split("[=.]", setting.lstrip("+"))[0] for setting in given_settings())
    return settings["expected"] is None or "dataset" in typed


def _find_inputs(config: Any, settings: dict[str, Any], method: Any) -> tuple[Inputs, Any]:
    """What to process, and where it comes from."""
    given = settings["input"]
    if given is not None:
        return choose_inputs(given, settings["input_kind"], isinstance(method, VideoMethod)), os.path.abspath(given)
    dataset = build_dataset(config)
    check_dataset(dataset, method)
    return Inputs(dataset_sources(dataset), dataset.kind == "video"), settings["dataset"]


def _print(summary: Summary, root: Path, clips: bool, overlays: bool) -> None:
    done = f", {summary.skipped + summary.filled} already done" if summary.skipped + summary.filled else ""
    incomplete = f", {summary.incomplete} incomplete" if summary.incomplete else ""
    if clips:
        counts = f"{plural(summary.items, 'clip')}, {plural(summary.frames, 'frame')}, {plural(summary.objects, 'track')}"
        number, unit = summary.frames, "frames/s"
    else:
        counts = f"{plural(summary.items, 'image')}, {plural(summary.objects, 'instance')}"
        number, unit = summary.items + summary.failures, "images/s"
    slowest = f" (slowest stage: {summary.bottleneck})" if summary.bottleneck else ""
    speed = f"{number / summary.seconds:.1f} {unit}{slowest}, " if summary.items else ""
    print(f"{counts}, {speed}{summary.failures} failed{incomplete}{done} -> {root}")
    if summary.filled:
        print(f"missing files of {plural(summary.filled, 'clip' if clips else 'image')} written from the records")
    if summary.repeated:
        again = plural(summary.repeated, "clip" if clips else "image")
        print(f"{again} computed again for files that need arrays which were not kept; output.arrays=true keeps them")
    if overlays and summary.items + summary.skipped + summary.filled:
        print(f"look at {root / 'overlays'}")
