"""``eigenseg extract``: masks for pictures, as a configuration says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eigenseg.cli.console import is_watched, progress_bar
from eigenseg.config.build import build_dataset, build_parts
from eigenseg.config.compose import job_folder, plain
from eigenseg.data.datasets.base import Dataset, check_images
from eigenseg.data.files import exclusive
from eigenseg.data.results.store import ResultFolder
from eigenseg.data.sources import ImageSource, find_images
from eigenseg.pipeline import Summary, check_batching, extract
from eigenseg.predictor import Predictor
from eigenseg.runtime import limit_threads, versions

_FAILURES_SHOWN = 20  # a screenful; the manifest has them all


def run_extract(config: Any) -> dict[str, Any]:
    """Extract masks as configured (``ExtractConfig``); returns the counts of the summary line.

    Raises:
        ValueError, TypeError, FileNotFoundError: if the configuration is wrong.
        OutputError: if results cannot be written.
    """
    settings = plain(config)
    output = settings["output"]
    root = Path(job_folder(output["dir"]) or os.path.join("outputs", "extract"))
    if settings["input"] is None:
        if config.dataset is None:
            raise ValueError(
                "input is missing; say what to read: input=photos/ (picture, folder, glob pattern or .txt list)"
            )
        sources, origin = dataset_images(build_dataset(config)), settings["dataset"]
    else:
        if root.exists() and Path(settings["input"]).exists() and root.samefile(settings["input"]):
            raise ValueError(
                f"output.dir is the input folder, {root}; choose another one, such as output.dir={root / 'out'}"
            )
        sources, origin = find_images(settings["input"]), os.path.abspath(settings["input"])
    pictures = {name: value for name, value in output.items() if name != "dir"}
    summary, folder = predict_into(root, config, sources, origin, pictures)
    _report(summary, folder, sources, overlays=output["overlays"])
    return {"output": str(root), **vars(summary)}


def predict_into(
    root: Path, config: Any, sources: list[ImageSource], origin: Any, pictures: dict[str, bool]
) -> tuple[Summary, ResultFolder]:
    """Predict pictures with the configured method and write the results, continuing what an earlier run began.

    Args:
        root: folder of the results.
        config: with ``backbone``, ``method``, ``preprocess``, ``runtime`` and ``resume``.
        sources: what to predict.
        origin: where the pictures come from; a folder is continued only with pictures of the same origin.
        pictures: what ``ResultFolder`` shall write.
    """
    settings = plain(config)
    runtime = settings["runtime"]
    limit_threads(runtime["threads"])
    check_batching(runtime["batch_size"], runtime["workers"])
    predictor = Predictor(**build_parts(config))
    with exclusive(root):
        run = _describe_run(settings, predictor, origin, pictures)
        folder = ResultFolder(root, run, resume=settings["resume"], **pictures)
        return _extract_with_progress(predictor, sources, folder, runtime), folder


def dataset_images(dataset: Dataset, indices: Sequence[int] | None = None) -> list[ImageSource]:
    """Pictures of a dataset's items, all if no indices are given.

    Raises:
        FileNotFoundError: if one is missing.
    """
    check_images(dataset, indices)
    chosen = range(len(dataset.items)) if indices is None else indices
    return [source for i in chosen for source in dataset.images(i)]


def report_failures(folder: ResultFolder, sources: list[ImageSource]) -> None:
    """Name the pictures that could not be processed, on standard error."""
    failed = folder.failures(sources)
    for record in failed[:_FAILURES_SHOWN]:
        print(f"failed: {record['image']}: {record['error']}", file=sys.stderr)
    if len(failed) > _FAILURES_SHOWN:
        more = len(failed) - _FAILURES_SHOWN
        print(f"failed: and {more} more, see {folder.log.path}", file=sys.stderr)


def _extract_with_progress(
    predictor: Predictor, sources: list[ImageSource], folder: ResultFolder, runtime: dict[str, Any]
) -> Summary:
    # Counting looks at every file once more, so only where somebody sees the bar.
    waiting = sum(not folder.holds(source) for source in sources) if is_watched() else 0
    with progress_bar("extracting", waiting) as advance:
        return extract(
            predictor.predict,
            sources,
            folder,
            batch_size=runtime["batch_size"],
            workers=runtime["workers"],
            on_outcome=lambda _: advance(1),
        )


def _report(summary: Summary, folder: ResultFolder, sources: list[ImageSource], overlays: bool) -> None:
    """Failures on standard error, then the summary line."""
    report_failures(folder, sources)
    speed = f"{summary.images_per_second:.1f} images/s, " if summary.images else ""
    done = f", {summary.skipped} already done" if summary.skipped else ""
    print(
        f"{summary.images} images, {summary.instances} instances, {speed}{summary.failures} failed{done} -> {folder.root}"
    )
    if overlays and summary.images + summary.skipped:
        print(f"look at {folder.root / 'overlays'}")


def _describe_run(settings: dict[str, Any], predictor: Predictor, origin: Any, pictures: dict[str, bool]) -> dict[str, Any]:
    """What ``run.json`` says; ``identity`` holds everything that decides what is in the folder."""
    identity = {name: settings[name] for name in ("backbone", "method", "postprocess")}
    identity["preprocess"] = vars(predictor.preprocess)
    identity["weights"] = predictor.backbone.provenance()["weights"]
    identity["input"] = origin
    identity["output"] = pictures
    return {
        "identity": identity,
        "config": settings,
        "device": str(predictor.device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
