"""Cost of refiners, and their effect on the IoU of coarse masks: ``python -m benchmarks.refine [--davis FOLDER]``.

Cost is measured on scikit-learn's two sample photographs, with one mask per image and with eight that share its grid.
Quality: DAVIS annotations are reduced to a grid of 16 pixels, the resolution of a ViT, refined, and compared with the full
resolution: IoU of masks, and of their boundaries (Cheng et al., CVPR 2021), bands 2 % and 0.5 % of the diagonal wide.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image
from torch import Tensor

from benchmarks.harness import environment, save
from eigenseg.data import read_image
from eigenseg.data.datasets import Davis
from eigenseg.segment.refine import DEEP_SPECTRAL, BilateralParameters, BilateralSolver, DenseCRF, MaskRefiner
from eigenseg.segment.refine.cleanup import mask_iou

REFINERS: dict[str, MaskRefiner] = {
    "bilateral": BilateralSolver(),
    "bilateral, all components": BilateralSolver(keep="all"),
    "bilateral 8/8/4, all components": BilateralSolver(BilateralParameters(8.0, 8.0, 4.0), keep="all"),
    "crf_maskcut": DenseCRF(),
    "crf_deep_spectral": DenseCRF(DEEP_SPECTRAL, holes=False, min_iou=0.0),
}
TIMED = ("bilateral", "crf_maskcut", "crf_deep_spectral")
PATCH = 16
WIDTHS = {"boundary_iou": 0.02, "boundary_iou_thin": 0.005}  # fractions of the diagonal
SCORES = ("iou", *WIDTHS)


def main() -> int:
    """Time refiners, and score them if --davis is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", help="root of DAVIS 2017 with Annotations_unsupervised; required for scores")
    parser.add_argument("--every", type=int, default=1, help="score every n-th frame of a video")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    console = Console(width=120)
    costs = [cost(name, masks, options.rounds) for name in TIMED for masks in (1, 8)]
    record: dict[str, Any] = {**environment(1, "cpu"), "costs": costs}
    table = Table(title="CPU seconds per megapixel, one thread")
    for column in ("", "masks", "china.jpg", "flower.jpg"):
        table.add_column(column, justify="right" if column else "left")
    for row in costs:
        table.add_row(row["refiner"], str(row["masks"]), *(f"{seconds:.2f}" for seconds in row["seconds"].values()))
    console.print(table)
    if options.davis:
        record["quality"] = quality = score(Davis(options.davis), options.every)
        table = Table(title=f"DAVIS annotations on a {PATCH}-pixel grid, {quality['frames']} frames, mean")
        for column in ("", *SCORES, "frames better", "kept"):
            table.add_column(column, justify="right" if column else "left")
        for name, row in quality["means"].items():
            cells = [f"{row[key]:.3f}" for key in SCORES]
            table.add_row(name, *cells, f"{row['better']:.0%}" if "better" in row else "", f"{row.get('accepted', 1):.0%}")
        console.print(table)
    print(save("refine-cpu", record))
    return 0


def cost(name: str, masks: int, rounds: int) -> dict[str, Any]:
    """Median CPU seconds per megapixel of a refiner on each photograph; CPU time excludes other programs."""
    refiner, costs = REFINERS[name], {}
    for file in ("china.jpg", "flower.jpg"):
        image = torch.from_numpy(np.array(load_sample_image(file)))
        height, width = image.shape[:2]
        boxes = torch.zeros(masks, height, width, dtype=torch.bool)
        for k in range(masks):
            boxes[k, height // 4 : 3 * height // 4, width // 5 + 16 * k : 3 * width // 5 + 16 * k] = True
        refiner.refine_masks([image], [boxes])  # warm-up
        seconds = []
        for _ in range(rounds):
            start = time.process_time()
            refiner.refine_masks([image], [boxes])
            seconds.append(time.process_time() - start)
        costs[file] = statistics.median(seconds) / (height * width / 1e6)
    return {"refiner": name, "masks": masks, "seconds": costs}


def score(dataset: Davis, every: int) -> dict[str, Any]:
    """Mean scores of coarse and of refined masks."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("coarse", *REFINERS)}
    for index in range(len(dataset.items)):
        labels, frames = dataset.annotation(index).labels, dataset.images(index)
        for t in range(0, len(labels), every):
            annotation = torch.from_numpy((labels[t] != 0) & (labels[t] != 255))[None]
            if not annotation.any():
                continue
            image = torch.from_numpy(np.array(read_image(frames[t].path)))
            coarse = on_grid(annotation)
            rows["coarse"].append(scores(coarse, annotation))
            for name, refiner in REFINERS.items():
                (refined,) = refiner.refine_masks([image], [coarse])
                rows[name].append({**scores(refined.masks, annotation), "accepted": float(refined.kept)})
    means = {
        name: {key: statistics.fmean(row[key] for row in scored) for key in scored[0]} for name, scored in rows.items()
    }
    for name in REFINERS:
        pairs = zip(rows[name], rows["coarse"], strict=True)
        means[name]["better"] = statistics.fmean(after["iou"] > before["iou"] for after, before in pairs)
    return {"frames": len(rows["coarse"]), "means": means}


def on_grid(mask: Tensor) -> Tensor:
    """Patches that the mask covers by at least half, upsampled to pixels: (1, H, W) bool."""
    height, width = mask.shape[1:]
    coverage = torch.nn.functional.avg_pool2d(mask.double(), PATCH, ceil_mode=True)
    return (coverage >= 0.5).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)[:, :height, :width]


def scores(mask: Tensor, annotation: Tensor) -> dict[str, float]:
    """IoU of two masks (1, H, W) and of their boundaries."""
    first, second = mask[0].numpy(), annotation[0].numpy()
    bands = {
        name: float(mask_iou(*(torch.from_numpy(band(side, width))[None] for side in (first, second))))
        for name, width in WIDTHS.items()
    }
    return {"iou": float(mask_iou(mask, annotation)), **bands}


def band(mask: NDArray[np.bool_], fraction: float) -> NDArray[np.bool_]:
    """Pixels of a mask (H, W) within a fraction of the diagonal of its boundary; the image border is a boundary."""
    steps = max(1, round(fraction * float(np.hypot(*mask.shape))))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner: NDArray[np.uint8] = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1]
    edge: NDArray[np.bool_] = mask & (inner == 0)
    return edge


if __name__ == "__main__":
    raise SystemExit(main())
