"""Metrics compared with direct implementations: ``python -m benchmarks.metrics [--davis FOLDER --results FOLDER]``.

``DAVIS`` scores proposals against objects in the official unsupervised mode; the direct version extracts and dilates both
boundaries again for every pair, on whole frames. ``saliency`` computes one image's F curve; the direct version thresholds
the map 255 times. Both run in this process on one thread, in turn; ratios are medians over rounds, results are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.harness import environment, median_ratio, save
from eigenseg.data.datasets import Davis
from eigenseg.data.predictions import open_predictions
from eigenseg.segment.metrics.saliency import TokenCutSaliency, f_measure
from eigenseg.video.metrics.davis import score_video
from eigenseg.video.metrics.regions import boundary_of, disc, tolerance

Clip = tuple[NDArray[Any], NDArray[np.uint8]]  # prediction and annotation, (T, H, W)


def main() -> int:
    """Time both metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", help="root of DAVIS 2017 with Annotations_unsupervised; a generated clip by default")
    parser.add_argument("--results", help="folder of predicted label maps <video>/<frame>.png; needs --davis")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clips = read_clips(options.davis, options.results) if options.davis else {"generated": make_clip()}
    rows = [
        compare(
            f"DAVIS {name}, {len(annotation)} frames",
            options.rounds,
            partial(ours, prediction, annotation),
            partial(direct, prediction, annotation),
        )
        for name, (prediction, annotation) in clips.items()
    ]
    saliency, mask = make_map()
    rows.append(
        compare("saliency, 400 x 300", options.rounds, lambda: curve(saliency, mask), lambda: direct_curve(saliency, mask))
    )
    table = Table(title="seconds, one thread")
    for column in ("", "ours", "direct", "direct / ours", "largest difference"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(
            row["task"], f"{row['ours_s']:.4f}", f"{row['direct_s']:.3f}", f"{row['ratio']:.0f}", f"{row['difference']:.0e}"
        )
    davis = [row for row in rows if row["task"].startswith("DAVIS")]
    total = {key: sum(row[key] for row in davis) for key in ("ours_s", "direct_s")}
    table.add_row(
        "DAVIS, all", f"{total['ours_s']:.4f}", f"{total['direct_s']:.3f}", f"{total['direct_s'] / total['ours_s']:.0f}", ""
    )
    Console(width=120).print(table)
    print(save("metrics-cpu", {**environment(1, "cpu"), "rows": rows, "davis_total": total}))
    return 0


def compare(task: str, rounds: int, fast: Callable[[], NDArray[Any]], slow: Callable[[], NDArray[Any]]) -> dict[str, Any]:
    """Time two implementations of the same array, in turn."""
    fast()  # warm-up
    seconds: dict[str, list[float]] = {"ours": [], "direct": []}
    answers = {}
    for _ in range(rounds):
        for name, action in (("ours", fast), ("direct", slow)):
            start = time.perf_counter()
            answers[name] = action()
            seconds[name].append(time.perf_counter() - start)
    return {
        "task": task,
        "ours_s": min(seconds["ours"]),
        "direct_s": min(seconds["direct"]),
        "ratio": median_ratio(seconds["direct"], seconds["ours"]),
        "difference": float(np.abs(answers["ours"] - answers["direct"]).max()),
    }


def ours(prediction: NDArray[Any], annotation: NDArray[np.uint8]) -> NDArray[np.float64]:
    """J and F of every object: (2, O, T)."""
    scores = score_video(prediction, annotation, "unsupervised")
    return np.stack([scores.jaccard, scores.contour])


def direct(prediction: NDArray[Any], annotation: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same for videos of one object, pair by pair on whole frames; the object is matched to its best proposal."""
    objects, frames = int(annotation[0][annotation[0] != 255].max(initial=0)), len(annotation)
    proposals, element = max(int(prediction.max()), objects), disc(tolerance((annotation.shape[1], annotation.shape[2])))
    pairs = np.empty((2, proposals, objects, frames))
    for t in range(frames):
        valid = annotation[t] != 255
        for i in range(proposals):
            for j in range(objects):
                pairs[:, i, j, t] = direct_pair((prediction[t] == i + 1) & valid, (annotation[t] == j + 1) & valid, element)
    assert objects == 1
    return pairs[:, [int(pairs.mean(axis=(0, 3))[:, 0].argmax())], 0]


def direct_pair(mine: NDArray[np.bool_], other: NDArray[np.bool_], element: NDArray[np.uint8]) -> tuple[float, float]:
    """J and F of one pair of masks (H, W)."""
    union = int((mine | other).sum())
    edges = [boundary_of(mask) for mask in (mine, other)]
    near = [cv2.dilate(edge.astype(np.uint8), element) > 0 for edge in edges]
    counts = [int(edge.sum()) for edge in edges]
    jaccard = int((mine & other).sum()) / union if union else 1.0
    if not all(counts):
        return jaccard, float(not any(counts))
    precision, recall = int((edges[0] & near[1]).sum()) / counts[0], int((edges[1] & near[0]).sum()) / counts[1]
    return jaccard, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def curve(saliency: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """F over thresholds: (255,)."""
    return TokenCutSaliency().score(saliency, mask).curves["f"]


def direct_curve(saliency: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same, threshold by threshold."""
    foreground, values = mask > 0, np.empty((2, 255))
    for k in range(255):
        predicted = saliency > k
        true_positives = (predicted & foreground).sum()
        precision = true_positives / predicted.sum() if predicted.any() else 1.0
        values[:, k] = precision, true_positives / foreground.sum()
    return f_measure(values[0], values[1])


def read_clips(root: str, results: str) -> dict[str, Clip]:
    """Predicted and annotated label maps of every video."""
    dataset = Davis(root)
    predictions = open_predictions(Path(results), dataset)
    annotations = {item: dataset.annotation(i) for i, item in enumerate(dataset.items)}
    return {item: (predictions.read(item, annotation), annotation.labels) for item, annotation in annotations.items()}


def make_clip(frames: int = 10, proposals: int = 20) -> Clip:
    """A disc that crosses 480 x 854 pixels, and proposals scattered around it."""
    random, (rows, columns) = np.random.default_rng(0), np.indices((480, 854))
    annotation, prediction = np.zeros((2, frames, 480, 854), dtype=np.uint8)
    starts = random.uniform((60, 60), (420, 600), (proposals, 2))
    starts[7] = 240, 200  # the one that follows the object
    for t in range(frames):
        for i, (y, x) in enumerate(starts):
            prediction[t][(rows - y) ** 2 + (columns - x - 20 * t) ** 2 < 40**2] = i + 1
        annotation[t] = (rows - 240) ** 2 + (columns - 205 - 20 * t) ** 2 < 44**2
    return prediction, annotation


def make_map() -> Clip:
    """A soft saliency map of a disc, and the disc."""
    rows, columns = np.indices((300, 400))
    distance = np.hypot(rows - 150, columns - 200)
    noise = np.random.default_rng(0).normal(0, 20, distance.shape)
    return (255 - 1.5 * distance + noise).clip(0, 255).astype(np.uint8), (distance < 80).astype(np.uint8) * 255


if __name__ == "__main__":
    raise SystemExit(main())
