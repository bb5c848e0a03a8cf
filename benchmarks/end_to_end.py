"""Images to masks: ``python -m benchmarks.end_to_end`` times TokenCut and MaskCut's rounds of cutting and masking.

A ViT with random weights stands in for DINO: its tokens cost as much as DINO's, and their mean is subtracted because nearly
all pairs would exceed tau otherwise. The masks are meaningless. The published implementation is timed on the same tokens:
one image at a time, float64 matrices, SciPy's generalized subset solver. Ratios are medians over rounds; both run in this
process, each after a pause and an untimed call.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.contestants import EPS, Published
from benchmarks.graphs import TAU, photo_crops
from benchmarks.harness import PAUSE, environment, median_ratio, save
from eigenseg.data import Preprocess, plan_geometry, prepare_image
from eigenseg.discovery import ViTBackbone
from eigenseg.discovery.grid import component_of
from eigenseg.discovery.spectral import build_affinity, solve_ncut
from eigenseg.discovery.tokencut import bipartition

SIDE = 480
BACKBONES = {"ViT-S/16": "vit_small_patch16_224.dino", "ViT-S/8": "vit_small_patch8_224.dino"}


class CutRounds(NamedTuple):
    """Masks of every round, with the solver's passes and statuses."""

    masks: Tensor  # (rounds, B, gh, gw) bool
    passes: list[list[int]]
    statuses: list[list[str]]


def main() -> int:
    """Time both backbones on all tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", help="folder of photographs; scikit-learn's two by default")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions")
    parser.add_argument("--name", help="name of the file in results/; default: end_to_end-<device>")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=150)
    shown = Table(title=f"milliseconds per image, {SIDE} x {SIDE} pixels, batch {options.batch}")
    for column in (
        "",
        "features",
        "ours",
        "published",
        "cut ratio",
        "ratio with features",
        "different tokens",
        "passes per round",
    ):
        shown.add_column(column, justify="left" if not column else "right")
    rows = []
    for name, architecture in BACKBONES.items():
        for row in measure(name, architecture, options):
            rows.append(row)
            shown.add_row(
                f"{row['task']}, {name}",
                *(f"{row[key]:.1f}" for key in ("features_ms", "ours_ms", "published_ms", "ratio", "ratio_with_features")),
                str(row["different_tokens"]),
                " ".join(str(max(passes)) for passes in row["passes"]),
            )
    console.print(shown)
    record = {**environment(options.threads, options.device), "batch": options.batch, "rows": rows}
    console.print(f"written: {save(options.name or f'end_to_end-{options.device}', record)}")
    return 0


def measure(name: str, architecture: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time one backbone on TokenCut (one round) and on three rounds with and without a warm start."""
    device = torch.device(options.device)
    backbone = ViTBackbone(architecture, "random", center=True, position="dino").to(device)
    prepared, geometries = [], []
    for image in photo_crops(options.batch, options.photos):
        geometry = plan_geometry((image.shape[0], image.shape[1]), backbone.patch_size, Preprocess("square", SIDE))
        prepared.append(prepare_image(image, geometry, backbone.mean, backbone.std))
        geometries.append(geometry)
    pixels, grid = torch.stack(prepared).to(device), (SIDE // backbone.patch_size, SIDE // backbone.patch_size)
    tokens, seconds = clocked(lambda: backbone(pixels, geometries).tokens, device)
    features = seconds / options.batch
    tasks: list[tuple[str, int, bool]] = [("TokenCut", 1, False), ("3 rounds, cold", 3, False), ("3 rounds, warm", 3, True)]
    rows = []
    for task, rounds, warm in tasks:
        ours, theirs = [], []
        for _ in range(options.rounds):
            result, seconds = clocked(partial(cut_rounds, tokens, grid, rounds, warm), device)
            ours.append(seconds / options.batch)
            # The published call takes seconds per image, so one image stands for the batch.
            masks, seconds = clocked(partial(published_rounds, tokens[:1].cpu(), grid, rounds), torch.device("cpu"))
            theirs.append(seconds)
        rows.append(
            {
                "backbone": name,
                "tokens": tokens.shape[1],
                "task": task,
                "features_ms": 1e3 * features,
                "ours_ms": 1e3 * min(ours),
                "published_ms": 1e3 * min(theirs),
                "ratio": median_ratio(theirs, ours),
                "ratio_with_features": median_ratio([s + features for s in theirs], [s + features for s in ours]),
                "different_tokens": int((result.masks[:, 0].cpu() != masks[:, 0]).sum()),
                "passes": result.passes,
                "statuses": result.statuses,
            }
        )
    return rows


def clocked(action: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Result and seconds of a call, after a pause and, if the call is short, an untimed one."""
    time.sleep(PAUSE)
    for _ in range(2):
        start = time.perf_counter()
        result = action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if seconds > 2:
            break
    return result, seconds


def cut_rounds(tokens: Tensor, grid: tuple[int, int], rounds: int, warm: bool) -> CutRounds:
    """Cut, mask the object, cut again; the graph is built once."""
    affinity, block = build_affinity(tokens, TAU, EPS), None
    masks, passes, statuses = [], [], []
    for _ in range(rounds):
        result = solve_ncut(affinity, start=block if warm and block is not None else "features")
        cut = bipartition(result.eigenvectors[:, :, 0], grid)
        masks.append(component_of(cut.foreground, cut.seed))
        affinity, block = affinity.mask(masks[-1].flatten(1)), result.ritz_block
        passes.append(result.passes.tolist())
        statuses.append([status.value for status in result.status])
    return CutRounds(torch.stack(masks), passes, statuses)


def published_rounds(tokens: Tensor, grid: tuple[int, int], rounds: int) -> Tensor:
    """The same masks from zeroed features, a new graph and a dense float64 solve in every round."""
    solver, masks = Published(), []
    features = tokens.clone()
    for _ in range(rounds):
        graphs = solver.build(features)
        vectors = torch.from_numpy(np.stack([pairs[1][:, 0] for pairs in solver.solve(graphs)]))
        cut = bipartition(vectors, grid)
        masks.append(component_of(cut.foreground, cut.seed))
        features = features.masked_fill(masks[-1].flatten(1)[:, :, None], 0.0)
    return torch.stack(masks)


if __name__ == "__main__":
    raise SystemExit(main())
