"""``eigenseg extract``: masks for pictures, as a configuration says."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from eigenseg._version import __version__
from eigenseg.config import build_parts, job_folder, plain
from eigenseg.data import ImageSource, find_images
from eigenseg.data.files import exclusive
from eigenseg.data.results import ResultFolder
from eigenseg.predictor import Predictor
from eigenseg.segment.extraction import Summary, check_batching, extract

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "opencv-python-headless", "pillow", "hydra-core")
_FAILURES_SHOWN = 20  # a screenful; the manifest has them all


def run_extract(config: Any) -> dict[str, Any]:
    """Extract masks as configured (``ExtractConfig``); returns the counts of the summary line.

    Raises:
        ValueError, TypeError, FileNotFoundError: if the configuration is wrong.
        OutputError: if results cannot be written.
    """
    settings = plain(config)
    if settings["input"] is None:
        raise ValueError("input is missing; say what to read: input=photos/ (picture, folder, glob pattern or .txt list)")
    runtime, output = settings["runtime"], settings["output"]
    _limit_threads(runtime["threads"])
    check_batching(runtime["batch_size"], runtime["workers"])
    root = Path(job_folder(output["dir"]) or os.path.join("outputs", "extract"))
    if root.exists() and Path(settings["input"]).exists() and root.samefile(settings["input"]):
        raise ValueError(f"output.dir is the input folder, {root}; choose another one, such as output.dir={root / 'out'}")
    sources = find_images(settings["input"])
    predictor = Predictor(**build_parts(config))
    pictures = {name: value for name, value in output.items() if name != "dir"}
    with exclusive(root):
        folder = ResultFolder(root, _describe_run(settings, predictor), resume=settings["resume"], **pictures)
        summary = _extract_with_progress(predictor, sources, folder, runtime)
    _report(summary, folder, sources, overlays=output["overlays"])
    return {"output": str(root), **vars(summary)}


def _extract_with_progress(
    predictor: Predictor, sources: list[ImageSource], folder: ResultFolder, runtime: dict[str, Any]
) -> Summary:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Counting looks at every file once more, so only where somebody sees the bar.
    waiting = sum(not folder.holds(source) for source in sources) if console.is_terminal else 0
    with Progress(*columns, console=console, transient=True, disable=not waiting) as progress:
        task = progress.add_task("extracting", total=waiting)
        return extract(
            predictor.predict,
            sources,
            folder,
            batch_size=runtime["batch_size"],
            workers=runtime["workers"],
            on_outcome=lambda _: progress.advance(task),
        )


def _report(summary: Summary, folder: ResultFolder, sources: list[ImageSource], overlays: bool) -> None:
    """Failures on standard error, then the summary line."""
    failed = folder.failures(sources)
    for record in failed[:_FAILURES_SHOWN]:
        print(f"failed: {record['image']}: {record['error']}", file=sys.stderr)
    if len(failed) > _FAILURES_SHOWN:
        more = len(failed) - _FAILURES_SHOWN
        print(f"failed: and {more} more, see {folder.manifest.path}", file=sys.stderr)
    speed = f"{summary.images_per_second:.1f} images/s, " if summary.images else ""
    done = f", {summary.skipped} already done" if summary.skipped else ""
    print(
        f"{summary.images} images, {summary.instances} instances, {speed}{summary.failures} failed{done} -> {folder.root}"
    )
    if overlays and summary.images + summary.skipped:
        print(f"look at {folder.root / 'overlays'}")


def _describe_run(settings: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    """What ``run.json`` says; ``identity`` holds everything that decides what is in the folder."""
    identity = {name: settings[name] for name in ("backbone", "method")}
    identity["preprocess"] = vars(predictor.preprocess)
    identity["weights"] = predictor.backbone.describe()["weights"]
    identity["input"] = os.path.abspath(settings["input"])
    identity["output"] = {name: value for name, value in settings["output"].items() if name != "dir"}
    return {
        "identity": identity,
        "config": settings,
        "device": str(predictor.device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "eigenseg": __version__,
            "python": platform.python_version(),
            **_versions(_PACKAGES),
        },
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    installed = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):  # another build of OpenCV, for instance, does as well
            installed[name] = version(name)
    return installed


def _limit_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"runtime.threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)
    threadpool_limits(threads)
