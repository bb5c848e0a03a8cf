"""``eigenseg evaluate``: a method, or predictions in files, against a dataset.

Data flow: dataset -> images -> ``predictions/`` (as ``extract`` writes them) -> scores of single items, in worker
processes -> numbers -> table, ``metrics.json``, ``report.html``. Predictions given by path enter in the middle.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from eigenseg.cli.console import format_number, plural, print_table, progress_bar
from eigenseg.cli.interrupts import begin_work
from eigenseg.cli.predict import advice, build_job, check_dataset, dataset_sources, predict_into
from eigenseg.config.build import build_dataset, build_method, build_metric
from eigenseg.config.compose import choices, given_settings, job_folder, plain
from eigenseg.config.schema import PATHS
from eigenseg.data.datasets.base import Dataset
from eigenseg.data.datasets.coco import CocoInstances
from eigenseg.data.files import exclusive, make_folder, write_json
from eigenseg.data.json_files import read_json
from eigenseg.data.metric import Metric, NotingMetric
from eigenseg.data.placement import Placements
from eigenseg.data.predictions.base import FramePredictions, Predictions, check_overlap
from eigenseg.data.predictions.coco import CocoPredictions
from eigenseg.data.predictions.open import check_missing, open_predictions
from eigenseg.data.results.folder import read_run, sweep_files
from eigenseg.data.results.identity import differences
from eigenseg.data.results.writers import SaliencyWriter
from eigenseg.data.scoring import check_kind, check_processes, score_dataset
from eigenseg.pipeline import Summary
from eigenseg.report.page import write_report
from eigenseg.runtime import limit_threads, versions


def run_evaluate(config: Any) -> dict[str, Any]:
    """Evaluate as configured (``EvaluateConfig``).

    Returns:
        What ``metrics.json`` holds: ``metrics`` (the numbers), ``items`` (those of every item), ``protocol``, ``config``
        and more; also ``output`` and ``failures``.

    Raises:
        ValueError, TypeError, FileNotFoundError: if the configuration is wrong or predictions do not fit.
        OutputError: if results cannot be written.
    """
    settings = plain(config)
    dataset, metric = build_dataset(config), build_metric(config)
    check_kind(dataset, metric)
    check_missing(settings["missing"])
    check_processes(settings["runtime"]["processes"])
    limit_threads(settings["runtime"]["threads"])
    indices = _choose_items(dataset, settings["limit"])
    root = Path(job_folder(settings["output"]["dir"]) or os.path.join("outputs", "evaluate"))
    path, summary, missing = settings["predictions"], Summary(), settings["missing"]
    computed: list[str] = []
    if path is None:
        make_folder(root)
        summary, computed = _predict(root / "predictions", config, dataset, indices)
        # An image that failed is recorded and named; in the numbers it has no predictions.
        path, missing = root / "predictions", "empty"
    predictions = open_predictions(path, dataset, missing)
    lacking = check_overlap(predictions, dataset, indices)
    placements = Placements()
    begin_work()
    with progress_bar("scoring", len(indices)) as advance:
        processes = settings["runtime"]["processes"]
        scored = score_dataset(dataset, predictions, metric, indices, processes, advance, placements)
    notes = [
        *computed,
        *_notes(len(indices), len(dataset.items), lacking, summary.failures),
        *_warnings(predictions, dataset, indices, missing),
        *_experiment_notes(settings),
        *placements.predicted.notes(isinstance(predictions, CocoPredictions)),
        *placements.annotated.notes(isinstance(dataset, CocoInstances), "annotated boxes"),
        *(scored.notes() if isinstance(scored, NotingMetric) else []),
    ]
    parts = read_run(Path(path)).get("parts", {})  # of a folder that eigenseg wrote
    result = _result(settings, dataset, scored, len(indices), parts, notes)
    if all(values[scored.item_score] is None for values in result["items"].values()):
        result["notes"].append(
            "no item has an object in its annotation, so there is nothing to score; are these the right annotations?"
        )
    replaced = _replaced(root / "metrics.json", settings)
    with exclusive(root):
        sweep_files(root)
        write_json(root / "metrics.json", result)
        if settings["output"]["report"]:
            write_report(root / "report.html", result, dataset, predictions, scored)
    _print(result, root, settings["output"]["report"], replaced)
    return {**result, "output": str(root), "failures": summary.failures + summary.incomplete}


def _predict(root: Path, config: Any, dataset: Dataset, indices: Sequence[int]) -> tuple[Summary, list[str]]:
    """Run the method over the items; the counts of the run, and what to say beside the numbers."""
    method, clips = build_method(config), dataset.kind == "video"
    check_dataset(dataset, method)
    job = build_job(config, method, dataset_sources(dataset, indices), clips, plain(config)["dataset"])
    for note in job.notes():
        print(f"note: {note}")
    # A record holds everything but soft maps, whose scores are not those of their outlines.
    writers = [SaliencyWriter(soft_only=True)] if dataset.kind == "saliency" else []
    summary, _ = predict_into(root, config, job, writers)
    notes = []
    if summary.incomplete:
        notes.append(f"{plural(summary.incomplete, 'clip')} with unreadable or missing frames, which have no predictions")
    return summary, [*notes, *advice(plain(config), summary)]


def _choose_items(dataset: Dataset, limit: int | None) -> Sequence[int]:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    count = len(dataset.items)
    if not count:
        raise ValueError(f"{dataset.title} has no items")
    return range(min(limit or count, count))


def _result(
    settings: Mapping[str, Any], dataset: Dataset, metric: Metric, count: int, parts: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    names = choices()
    chosen = [f"{group}={names[group]}" for group in ("method", "backbone", "solver", "postprocess") if group in names]
    source = f"predictions {settings['predictions']}" if settings["predictions"] else "computed: " + ", ".join(chosen)
    return {
        "dataset": dataset.title,
        "scored": plural(count, "video" if dataset.kind == "video" else "image"),
        "protocol": metric.protocol,
        "tag": metric.tag,
        "source": source,
        "main": metric.main,
        "item_score": metric.item_score,
        "item_explanation": metric.item_explanation if isinstance(metric, NotingMetric) else "",
        "metrics": metric.compute(),
        "paper": _paper(settings["expected"], names),
        "notes": notes,
        "choices": names,
        "overrides": given_settings(),
        "config": dict(settings),
        "parts": parts,
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "items": metric.item_scores(),
    }


def _paper(expected: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any] | None:
    """The published numbers of this backbone, where the experiment carries them and its method is the one that ran."""
    method, backbone = names.get("method"), names.get("backbone")
    if not expected or backbone not in expected.get("values", {}) or _changed("method"):
        return None
    values = expected["values"][backbone]
    return {
        "values": dict(values),
        "method": f"{method} with {backbone}",
        "source": expected["source"],
        "verified": bool(expected.get("verified", False)),
    }


def _experiment_notes(settings: Mapping[str, Any]) -> list[str]:
    """Why an experiment's published numbers are left out, or what differs from how they were made."""
    expected, names = settings["expected"], choices()
    if not expected:
        return []
    if _paper(expected, names) is None:
        with_method = f"method={names.get('method')}" if _changed("method") else f"backbone={names.get('backbone')}"
        return [
            f"the experiment has no published number with {with_method}; it has those of {', '.join(expected['values'])}"
        ]
    decisive = ("method.", "backbone.", "solver", "postprocess", "preprocess.", "evaluation", "limit")
    changed = [setting for setting in given_settings() if setting.lstrip("+~").startswith(decisive)]
    # Where weights and heads lie says nothing of how they are used.
    changed = [setting for setting in changed if setting.lstrip("+").partition("=")[0] not in PATHS]
    return [f"set otherwise than in the experiment: {', '.join(changed)}"] if changed else []


def _changed(group: str) -> bool:
    """Whether the command line chose another yaml of a group."""
    return any(setting.startswith(f"{group}=") for setting in given_settings())


def _replaced(path: Path, settings: Mapping[str, Any]) -> list[str]:
    """That numbers of other settings stand where these go; resume=false asks for it."""
    if not settings["resume"]:
        return []
    try:
        before = read_json(path)["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    decisive = [name for name in settings if name not in ("output", "runtime", "resume", "allow_targets", "expected")]
    changed = differences({name: before.get(name) for name in decisive}, {name: settings[name] for name in decisive})
    return (
        [f"{path} held numbers of other settings, which these replace. Different: {', '.join(changed)}"] if changed else []
    )


def _notes(scored: int, items: int, lacking: int, failures: int) -> list[str]:
    notes = []
    if scored < items:
        notes.append(f"only the first {scored} of {items} items")
    if failures:
        notes.append(f"{plural(failures, 'item')} could not be processed, counted as empty")
    elif lacking:
        notes.append(f"{lacking} of {plural(scored, 'item')} without a prediction, counted as empty")
    return notes


def _warnings(predictions: Predictions, dataset: Dataset, indices: Sequence[int], missing: str) -> list[str]:
    """What a user might not expect: predictions without an item, frames that count as empty."""
    notes, unmatched = [], predictions.unmatched(dataset.items)
    if unmatched:
        notes.append(f"{plural(len(unmatched), 'prediction')} without an item, left out, such as {unmatched[0]}")
    if missing == "empty" and dataset.kind == "video" and isinstance(predictions, FramePredictions):
        absent = sum(len(predictions.absent_frames(dataset.annotation(i))) for i in indices)
        if absent:
            notes.append(f"{plural(absent, 'frame')} without a prediction, counted as empty")
    return notes


def _print(result: Mapping[str, Any], root: Path, report: bool, replaced: Sequence[str]) -> None:
    """The numbers as a table, and where the rest is."""
    paper = result["paper"]
    table = Table(
        title=f"{result['dataset']}, {result['scored']}\n{result['protocol']}", title_justify="left", title_style=""
    )
    for column in ("metric", "protocol"):
        table.add_column(column)
    table.add_column("value", justify="right")
    if paper:
        table.add_column("paper", justify="right")
    for name, value in result["metrics"].items():
        row = [name, result["tag"], format_number(value)]
        table.add_row(
            *row, *([str(paper["values"].get(name, ""))] if paper else []), style="bold" if name == result["main"] else ""
        )
    lines = []
    if paper:
        remembered = "" if paper["verified"] else " (remembered, not verified)"
        lines.append(f"paper: {paper['method']}, {paper['source']}{remembered}")
    lines += [f"note: {note}" for note in (*result["notes"], *replaced)]
    print_table(table, *lines, f"{root / 'metrics.json'}" + (f", look at {root / 'report.html'}" if report else ""))
