"""``report.html``: a single file without scripts or external resources."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from jinja2 import Environment, PackageLoader, select_autoescape

from eigenseg.data.datasets.base import Dataset
from eigenseg.data.files import write_bytes
from eigenseg.data.images import ImageArray
from eigenseg.data.metric import Metric
from eigenseg.data.predictions.base import Predictions
from eigenseg.report.cases import draw_case
from eigenseg.report.charts import histogram
from eigenseg.video.metrics.davis import DavisScore

_CASES = 4  # per section, so that the page stays short enough to read
_LONGEST_SIDE = 420  # pixels of a panel; twelve cases then take about a megabyte


class _Case(NamedTuple):
    name: str
    score: float
    panels: list[tuple[str, str]]  # caption, data URI


def write_report(
    path: Path, result: Mapping[str, Any], dataset: Dataset, predictions: Predictions, metric: Metric | None = None
) -> None:
    """Write the report of one evaluation.

    Args:
        path: of the HTML file.
        result: the content of ``metrics.json``.
        dataset, predictions: those that were scored.
        metric: with the scores; it knows which proposals of a video were matched.

    Raises:
        OutputError: if the file cannot be written.
    """
    key = result["item_score"]
    scores = {name: values[key] for name, values in result["items"].items() if values.get(key) is not None}
    ranked = sorted(scores, key=lambda name: (scores[name], name))
    index = {name: i for i, name in enumerate(dataset.items)}

    def case(name: str) -> _Case:
        matches = metric.matches(name) if isinstance(metric, DavisScore) else None
        panels = draw_case(dataset, predictions, index[name], matches)
        return _Case(name, scores[name], [(panel.caption, _embed(panel.image)) for panel in panels])

    sections = [(title, [case(name) for name in names]) for title, names in _choose(ranked)]
    environment = Environment(loader=PackageLoader("eigenseg", "report"), autoescape=select_autoescape(default=True))
    html = environment.get_template("page.html").render(
        result=result,
        score=key,
        explanation=result.get("item_explanation", ""),
        scored=len(scores),
        chart=histogram(list(scores.values()), key) if scores else None,
        sections=sections,
        settings=json.dumps(result["config"], indent=1),
    )
    write_bytes(path, html.encode())


def _choose(ranked: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Worst, median and best names of a list sorted from worst to best; a short list is one section."""
    if len(ranked) <= 3 * _CASES:
        return [("All cases, from worst to best", list(ranked))] if ranked else []
    middle = (len(ranked) - _CASES) // 2
    return [
        ("Worst", list(ranked[:_CASES])),
        ("Median", list(ranked[middle : middle + _CASES])),
        ("Best", list(ranked[::-1][:_CASES])),
    ]


def _embed(image: ImageArray) -> str:
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
