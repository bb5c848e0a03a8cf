"""MaskCut's stop rule and scores: ``python -m benchmarks.maskcut_scores --coco COCO [--weights FILE]`` scores its masks.

COCO annotations, class-agnostic. AP and AR100 are of masks. Recall (of objects) and hit (of images with one) count
objects whose box has an IoU of 0.5 with the box of some mask, whatever its score. Every combination of max_eigenvalue,
max_masks, tau and score is evaluated, unrefined and with ``bilateral_fine``. The search is sequential, so one run per tau
without limits contains the others. Without --weights only color and texture are measured. --cache keeps features.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.harness import environment, save
from eigenseg import build_predictor, read_image
from eigenseg.data.datasets import CocoInstances, ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.geometry import Geometry
from eigenseg.discovery.method import token_instances
from eigenseg.discovery.metrics.corloc import pairwise_iou
from eigenseg.segment.maskcut.maskcut import maskcut
from eigenseg.segment.maskcut.rounds import Round, StopRule
from eigenseg.segment.maskcut.scores import SCORES, Score, score_round
from eigenseg.segment.metrics.coco import CocoAP
from eigenseg.segment.refine import BilateralParameters, BilateralSolver

TAUS = {"color_texture": (0.15, 0.3), "dinov2_vits14": (0.15, 0.2, 0.3, 0.4)}
REFINED_TAUS = {"color_texture": (0.15,), "dinov2_vits14": (0.15, 0.3)}
MAX_EIGENVALUES = (0.7, 0.9, 1.0)
MAX_MASKS = (3, 10)
SIZE = 322  # shorter side: 23 rows of a ViT's 14-pixel patches
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {  # backbone and overrides; color and texture at its own size too
    "color_texture": ("color_texture", ()),
    f"color_texture, {SIZE}": ("color_texture", ("preprocess.mode=round", f"preprocess.resize={SIZE}")),
    f"dinov2_vits14, {SIZE}": ("dinov2_vits14", ("preprocess.mode=round", f"preprocess.resize={SIZE}")),
}


@dataclass(frozen=True)
class Found:
    """What a search without limits finds in one image: rounds, and their masks with the rounds' numbers beside them."""

    rounds: tuple[Round, ...]
    masks: Detections
    numbers: NDArray[np.int64]

    def until(self, max_eigenvalue: float, max_masks: int) -> Found:
        """What a search with these limits finds: it ends at the first round above the limit."""
        above = [i for i, cut in enumerate(self.rounds) if cut.eigenvalue > max_eigenvalue]
        kept = np.flatnonzero(self.numbers < min([max_masks, *above]))
        assert self.masks.masks is not None
        detections = Detections(self.masks.boxes[kept], self.masks.scores[kept], masks=self.masks.masks[kept])
        return Found(self.rounds, detections, self.numbers[kept])

    def scored(self, score: Score) -> Detections:
        return replace(self.masks, scores=np.array([score_round(self.rounds[i], score) for i in self.numbers]))


def main() -> int:
    """Score all combinations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", required=True, help="folder with annotations/instances_val2017.json and val2017/")
    parser.add_argument("--weights", help="weights of a DINOv2 ViT-S/14, whose final tokens are the features")
    parser.add_argument("--weights-name", help="what to call them in the results; the file's name by default")
    parser.add_argument("--features", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--cache", type=Path, help="folder for features")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = CocoInstances(options.coco)
    for kind in options.features:
        backbone, overrides = KINDS[kind]
        weights = None
        if backbone != "color_texture":
            if not options.weights:
                continue
            overrides += (f"backbone.weights={options.weights}",)
            path = Path(options.weights)
            weights = {
                "name": options.weights_name or path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        features = encode(dataset, backbone, overrides, options.cache)
        rows: list[dict[str, Any]] = []
        for tau, refine in itertools.product(TAUS[backbone], (False, True)):
            if refine and tau not in REFINED_TAUS[backbone]:
                continue
            found = search(dataset, features, tau, refine)
            rows += evaluate(dataset, found, {"tau": tau, "refined": refine})
            print_rows(kind, rows[-len(MAX_EIGENVALUES) * len(MAX_MASKS) :])
        about = {"features": kind, "weights": weights, "images": len(dataset.items), "rows": rows}
        print(save(f"maskcut-scores-{kind.replace(', ', '-')}", {**environment(1, "cpu"), **about}))
    return 0


def encode(
    dataset: CocoInstances, backbone: str, overrides: Sequence[str], cache: Path | None
) -> list[tuple[Tensor, Geometry]]:
    """Tokens (1, N, D) and geometry of every image."""
    extractor = build_predictor("maskcut", backbone=backbone, device="cpu", overrides=overrides).extractor
    size = extractor.preprocess.resize
    file = cache / f"{backbone}-{size}.npz" if cache else None
    known = dict(np.load(file)) if file and file.exists() else {}
    results = []
    for index, item in enumerate(dataset.items):
        fitted = extractor.prepare(dataset.images(index)[0].path)
        if item not in known:
            with torch.inference_mode():
                known[item] = extractor.extract([fitted]).tokens[0].float().numpy()
        results.append((torch.from_numpy(known[item])[None], fitted.geometry))
    if file and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **known)
    return results


def search(dataset: CocoInstances, features: Sequence[tuple[Tensor, Geometry]], tau: float, refine: bool) -> list[Found]:
    """All rounds of every image, with masks that follow the tokens or are refined."""
    refiner = BilateralSolver(BilateralParameters(8.0, 8.0, 4.0), keep="all")  # bilateral_fine
    stop = StopRule(max_masks=max(MAX_MASKS), max_eigenvalue=1)
    results = []
    for index, (tokens, geometry) in enumerate(features):
        (cuts,) = maskcut(tokens, geometry.grid, tau, stop=stop)
        numbers = list(range(len(cuts.rounds)))
        masks = torch.stack([cut.mask for cut in cuts.rounds]) if numbers else torch.zeros(0, *geometry.grid).bool()
        instances = token_instances(masks, [1.0] * len(numbers), geometry, "", {"number": numbers})
        if refine:
            (instances,) = refiner([read_image(dataset.images(index)[0].path)], [instances])
        kept = np.array(instances.extras.get("number", []), dtype=np.int64)
        results.append(Found(cuts.rounds, Detections.from_instances(instances), kept))
    return results


def evaluate(dataset: CocoInstances, found: Sequence[Found], cell: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per limit: AP for every score, in percent, and what does not depend on the score."""
    annotations = [dataset.annotation(index) for index in range(len(found))]
    rows = []
    for max_eigenvalue, max_masks in itertools.product(MAX_EIGENVALUES, MAX_MASKS):
        kept = [one.until(max_eigenvalue, max_masks) for one in found]
        row = {**cell, "max_eigenvalue": max_eigenvalue, "max_masks": max_masks}
        row["masks"] = sum(len(one.masks) for one in kept) / len(kept)
        row.update(box_recall([one.masks for one in kept], annotations))
        for score in SCORES:
            metric = CocoAP()
            for item, one, annotation in zip(dataset.items, kept, annotations, strict=True):
                metric.update(item, one.scored(score), annotation)
            scores = metric.compute()
            row[f"AP {score}"], row["AR100"] = (100 * (scores[key] or 0.0) for key in ("AP", "AR100"))
        rows.append(row)
    return rows


def box_recall(detections: Sequence[Detections], annotations: Sequence[ObjectAnnotation]) -> dict[str, float]:
    """Percent of the objects whose box some mask's box matches with an IoU of 0.5, and of the images with such a one."""
    matched = []
    for one, annotation in zip(detections, annotations, strict=True):
        boxes = annotation.boxes[~annotation.crowd]
        matched.append((pairwise_iou(one.boxes, boxes) >= 0.5).any(axis=0) if len(one) else np.zeros(len(boxes), bool))
    any_matched = [float(objects.any()) for objects in matched]
    return {"recall": 100 * float(np.concatenate(matched).mean()), "hit": 100 * float(np.mean(any_matched))}


def print_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=200).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
