"""Charts as SVG elements for an HTML page; matplotlib without pyplot's global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Text stays text, and equal data give equal files.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "eigenseg",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLORS = ("#3d5afe", "#ff3b6b", "#00a88f", "#ff9d00", "#8e44ff", "#5a6b7b")
_BINS = 25  # enough to show two modes, few enough for a hundred items


def histogram(values: Sequence[float], label: str) -> str:
    """Histogram of the items' scores, with their mean.

    Args:
        values: one per item.
        label: of the horizontal axis.

    Returns:
        An ``<svg>`` element.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        axes: Axes = figure.add_subplot()
        low, high = min(0.0, *values), max(1.0, *values)
        axes.hist(values, bins=_BINS, range=(low, high), color=COLORS[0], rwidth=0.92)
        average = sum(values) / len(values)
        axes.axvline(average, color=COLORS[1], linewidth=1.5)
        axes.annotate(
            f"mean {average:.3f}",
            (average, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
        )
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=label, ylabel="items", xlim=(low, high))
        return to_svg(figure)


def curves(series: Mapping[str, Sequence[tuple[int, float]]], label: str) -> str:
    """Curves over training steps.

    Args:
        series: (step, value) by name; a single one needs no name.
        label: of the vertical axis.

    Returns:
        An ``<svg>`` element.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        axes: Axes = figure.add_subplot()
        for i, (name, points) in enumerate(series.items()):
            steps, values = [point[0] for point in points], [point[1] for point in points]
            mark = "o" if len(points) == 1 else None  # a line of one point would not be seen
            axes.plot(steps, values, label=name, color=COLORS[i % len(COLORS)], linewidth=1.3, marker=mark)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize="small")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="step", ylabel=label)
        return to_svg(figure)


def to_svg(figure: Figure) -> str:
    """The ``<svg>`` element of a figure."""
    stream = io.StringIO()
    with rc_context(_STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
