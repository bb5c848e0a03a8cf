"""``report.html`` of a training: the curves of its log, its evaluations, and where its time went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from eigenseg.data.files import write_bytes
from eigenseg.report.charts import curves


def write_training_report(path: Path, run: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> None:
    """Write the report of one training.

    Args:
        path: of the HTML file.
        run: the content of ``run.json``.
        log: the lines of ``metrics.jsonl``.

    Raises:
        OutputError: if the file cannot be written.
    """
    steps = [line for line in log if "loss" in line]
    evaluations = [line for line in log if "evaluation" in line]
    parts = sorted({name for line in steps for name in line if name.startswith("loss_")})
    losses = {name.removeprefix("loss_"): _curve(steps, name) for name in parts}
    charts = [("Loss", curves({"sum": _curve(steps, "loss"), **losses}, "loss"))]
    for title, name in (("Learning rate", "lr"), ("Norm of the gradient", "gradient_norm")):
        charts.append((title, curves({"": _curve(steps, name)}, title.lower())))
    if evaluations and run.get("best"):
        metric = run["best"]["metric"]
        points = [(line["step"], line["evaluation"][metric]) for line in evaluations]
        charts.append(("Evaluation", curves({"": [point for point in points if point[1] is not None]}, metric)))
    environment = Environment(loader=PackageLoader("eigenseg", "report"), autoescape=select_autoescape(default=True))
    html = environment.get_template("training.html").render(
        run=run, charts=charts, evaluations=evaluations, settings=json.dumps(run["config"], indent=1)
    )
    write_bytes(path, html.encode())


def _curve(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in lines if name in line]
