"""``eigenseg collect``: the ``metrics.json`` files below a folder as one sorted table and a plot."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from matplotlib.figure import Figure
from rich.table import Table

from eigenseg.cli.console import format_number, plural, print_table
from eigenseg.config.schema import LOCATIONS
from eigenseg.data.files import write_bytes
from eigenseg.data.json_files import check_shape, read_json
from eigenseg.report.charts import COLORS

# Settings that say where things lie or how fast they go, not what is computed.
_NOT_SETTINGS = ("output.", "runtime.", "expected", "resume", "limit", *LOCATIONS)
_LABEL = 40  # letters of a bar's label; more would leave no room for the bars
_COLUMNS = 4  # metrics in the printed table; the csv has all of them


class Result(TypedDict):
    """What is read of a ``metrics.json``."""

    dataset: str
    protocol: str
    tag: str
    main: str
    metrics: dict[str, int | float | None]
    config: dict[str, Any]
    choices: dict[str, str]
    notes: NotRequired[list[str]]


class Run(NamedTuple):
    """One evaluation."""

    folder: str
    settings: dict[str, Any]  # flat, dotted names
    result: dict[str, Any]  # a ``Result``


def run_collect(arguments: Sequence[str]) -> dict[str, Any]:
    """Collect as the command line says; returns the table.

    Raises:
        FileNotFoundError: if there is no folder, or no result below it.
        ValueError: if a file cannot be read, or a metric is unknown.
    """
    options = _parse(arguments)
    runs = [run for folder in options.folders for run in find_runs(Path(folder))]
    quoted = sorted({run.result["main"] for run in runs})
    if not options.metric and len(quoted) > 1:
        raise ValueError(f"the results quote different metrics ({', '.join(quoted)}); collect them apart, or give --metric")
    metric = options.metric or quoted[0]
    known = sorted({name for run in runs for name in run.result["metrics"]})
    if metric not in known:
        searched = ", ".join(options.folders)
        raise ValueError(f"--metric {metric} is in no result; known: {', '.join(known)} (searched {searched})")
    runs.sort(key=lambda run: _rank(run.result["metrics"].get(metric), options.ascending))
    varied = varied_settings(runs)
    table = [_row(run, varied) for run in runs]
    output = Path(options.output or options.folders[0])
    write_bytes(output / "collected.csv", _as_csv(table))
    write_bytes(output / "collected.png", _plot(runs, varied, metric))
    _print(table, varied, metric, runs[0].result["protocol"], output)
    return {"rows": table, "varied": varied, "metric": metric, "output": str(output)}


def find_runs(folder: Path) -> list[Run]:
    """Results below a folder, sorted by path.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if one was not written by eigenseg.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"collect: no such folder {folder}")
    runs = []
    for path in sorted(folder.rglob("metrics.json")):
        result: Any = check_shape(read_json(path), Result, str(path), "a file that eigenseg evaluate wrote")
        settings = {**flatten(result["config"]), **_choice_names(result)}
        runs.append(Run(path.parent.relative_to(folder).as_posix(), settings, result))
    if not runs:
        raise FileNotFoundError(f"collect: no metrics.json below {folder}; eigenseg evaluate -m ... writes them")
    return runs


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names: ``{"a": {"b": 1}}`` is ``{"a.b": 1}``."""
    if not isinstance(settings, dict):
        return {prefix.rstrip("."): settings}
    return {key: value for name, child in settings.items() for key, value in flatten(child, f"{prefix}{name}.").items()}


def varied_settings(runs: Sequence[Run]) -> list[str]:
    """Names of the settings in which runs differ; the name of a group stands for what its yamls hold."""
    names = {name for run in runs for name in run.settings if not name.startswith(_NOT_SETTINGS)}
    differing = {name for name in names if len({json.dumps(run.settings.get(name)) for run in runs}) > 1}
    groups = {name for name in differing if "." not in name}

    def explained(name: str) -> bool:
        """Whether a setting is a function of the chosen yaml."""
        group = name.split(".")[0]
        if group == name or group not in groups:
            return False
        pairs = {(run.settings.get(group), json.dumps(run.settings.get(name))) for run in runs}
        return len(pairs) == len({choice for choice, _ in pairs})

    return sorted(name for name in differing if not explained(name))


def _choice_names(result: dict[str, Any]) -> dict[str, Any]:
    choices = {name: value for name, value in result["choices"].items() if name in _GROUPS}
    return {**choices, "protocol": result["protocol"], "data": result["dataset"]}


_GROUPS = ("backbone", "method", "solver", "postprocess", "dataset", "evaluation")


def _row(run: Run, varied: Sequence[str]) -> dict[str, Any]:
    notes = {"notes": "; ".join(given)} if (given := run.result.get("notes")) else {}
    return {"run": run.folder, **{name: run.settings.get(name) for name in varied}, **run.result["metrics"], **notes}


def _rank(value: float | None, ascending: bool) -> tuple[bool, float]:
    """Best first; a run without a value comes last."""
    return (True, 0.0) if value is None else (False, value if ascending else -value)


def _as_csv(table: list[dict[str, Any]]) -> bytes:
    stream = io.StringIO()
    columns = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue().encode()


def _print(table: list[dict[str, Any]], varied: Sequence[str], metric: str, protocol: str, output: Path) -> None:
    metrics = [name for row in table for name in row if name not in ("run", "notes", *varied)]
    shown = list(dict.fromkeys([metric, *metrics]))[:_COLUMNS]
    # Runs that no setting tells apart are told apart by their folders, and what was scored only in part says so.
    alike = len({tuple(str(row[name]) for name in varied) for row in table}) < len(table)
    varied = [*(["run"] if alike else []), *varied]
    printed = Table(
        *varied, title=f"{plural(len(table), 'run')}, best {metric} first\n{protocol}", title_justify="left", title_style=""
    )
    for name in shown:
        printed.add_column(name, justify="right")
    if any("notes" in row for row in table):
        printed.add_column("notes")
    for row in table:
        values = (format_number(row.get(name)) for name in shown)
        printed.add_row(*(str(row[name]) for name in varied), *values, *([row["notes"]] if "notes" in row else []))
    print_table(printed, f"{output / 'collected.csv'}, look at {output / 'collected.png'}")


def _plot(runs: Sequence[Run], varied: Sequence[str], metric: str) -> bytes:
    """A line over the setting with most numbers, one for each combination of the others; bars where there is none."""
    scored = [run for run in runs if run.result["metrics"].get(metric) is not None]
    figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    numeric = [name for name in varied if all(_is_number(run.settings.get(name)) for run in scored)]
    if numeric and scored:
        across = max(numeric, key=lambda name: len({run.settings[name] for run in scored}))
        others = [name for name in varied if name != across]
        lines: dict[str, list[tuple[float, float]]] = {}
        for run in scored:
            label = ", ".join(f"{name}={run.settings.get(name)}" for name in others)
            lines.setdefault(label, []).append((run.settings[across], run.result["metrics"][metric]))
        for i, (label, points) in enumerate(sorted(lines.items())):
            points.sort()
            axes.plot(*zip(*points, strict=True), marker="o", label=label, color=COLORS[i % len(COLORS)])
        if others:
            axes.legend(fontsize="small")
        axes.set(xlabel=across, ylabel=metric)
    else:
        labels = [", ".join(f"{name}={run.settings.get(name)}" for name in varied) or run.folder for run in scored]
        labels = [label if len(label) <= _LABEL else f"{label[:_LABEL]}..." for label in labels]
        axes.barh(labels[::-1], [run.result["metrics"][metric] for run in scored][::-1], color=COLORS[0])
        axes.set(xlabel=metric)
    axes.set_title(f"{runs[0].result['dataset']}: {runs[0].result['tag']}", fontsize="medium")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="eigenseg collect",
        description="Join the metrics.json files below folders into one table (collected.csv) and a plot (collected.png).",
    )
    parser.add_argument("folders", nargs="+", help="folders of a sweep, such as multirun/2026-01-31/12-00-00")
    parser.add_argument("--metric", help="what to sort by; the first result's main number if not given")
    parser.add_argument("--ascending", action="store_true", help="lower is better, as for mae")
    parser.add_argument("--output", help="folder for the two files; the first folder if not given")
    return parser.parse_args(arguments)
