"""MaskCut without backbone and CRF: ``python -m benchmarks.maskcut`` measures the CPU time of three rounds, one thread.

Ours, batched and warm-started, is compared with a loop around the published solver call: features of masked tokens set to
0, a new graph in every round, ``scipy.linalg.eigh(D - W, D, subset_by_index=[1, 2])`` in float64, one image at a time. Both
apply the published rules (corners, component, rejection) to eigenvectors of one sign, so their masks must be equal. The
default, which removes masked tokens from the graph, is timed too. CPU time excludes other programs on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import linalg
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.graphs import FAMILIES, make_features
from benchmarks.harness import PAUSE, environment, median_ratio, save
from eigenseg.discovery.spectral.result import orient
from eigenseg.segment.maskcut.maskcut import maskcut
from eigenseg.segment.maskcut.reference import maskcut_reference, raw_component
from eigenseg.segment.maskcut.rounds import StopRule

TAU, EPS, ROUNDS = 0.15, 1e-5, 3


def main() -> int:
    """Time all families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[900, 3600])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--families", nargs="+", default=["photo", "noisy"], choices=FAMILIES)
    parser.add_argument("--photos", help="folder of photographs; scikit-learn's two by default")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with threadpool_limits(1):
        for tokens in options.tokens:
            for family in options.families:
                rows.append(measure(family, tokens, options))
    table = Table(title="CPU milliseconds per image, three rounds, one thread")
    columns = ("", "default", "published rules", "published call", "call / default", "call / rules", "different tokens")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        times = (f"{row[key]:.1f}" for key in ("default_ms", "rules_ms", "published_ms"))
        ratios = (f"{row[key]:.0f}" for key in ("ratio", "ratio_rules"))
        table.add_row(f"{row['family']}, N = {row['tokens']}", *times, *ratios, str(row["different_tokens"]))
    Console(width=120).print(table)
    print(save("maskcut-cpu", {**environment(1, "cpu"), "batch": options.batch, "rows": rows}))
    return 0


def measure(family: str, tokens: int, options: argparse.Namespace) -> dict[str, Any]:
    """Time the three implementations on one family, in turn."""
    features, side = make_features(family, options.batch, tokens, options.photos), int(tokens**0.5)
    grid, stop = (side, side), StopRule(max_masks=ROUNDS, max_eigenvalue=1)
    actions: dict[str, tuple[Callable[[], Any], int]] = {
        "default": (lambda: maskcut(features, grid, TAU, EPS, stop), options.batch),
        "rules": (lambda: maskcut_reference(features, grid, TAU, EPS, ROUNDS), options.batch),
        # The published call takes seconds per image, so one image stands for the batch.
        "published": (lambda: published(features[0], grid), 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    answers: dict[str, Any] = {}
    for _ in range(options.rounds):
        for name, (action, images) in actions.items():
            time.sleep(PAUSE)
            if name != "published":
                action()  # warm-up
            start = time.process_time()
            answers[name] = action()
            seconds[name].append((time.process_time() - start) / images)
    return {
        "family": family,
        "tokens": tokens,
        **{f"{name}_ms": 1e3 * min(values) for name, values in seconds.items()},
        "ratio": median_ratio(seconds["published"], seconds["default"]),
        "ratio_rules": median_ratio(seconds["published"], seconds["rules"]),
        "different_tokens": int((answers["rules"].masks[0] != answers["published"]).sum()),
    }


def published(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks of one image, (3, gh, gw) bool, from dense float64 matrices and the generalized solver in every round."""
    painted = torch.zeros(len(features), dtype=torch.bool)
    previous = union = torch.zeros(grid, dtype=torch.bool)
    masks = []
    for index in range(ROUNDS):
        painted |= previous.flatten()
        unit = torch.nn.functional.normalize(features.masked_fill(painted[:, None], 0.0), dim=1).numpy()
        weights = np.where(unit @ unit.T > TAU, 1.0, EPS)
        degrees = np.diag(weights.sum(axis=1))
        vectors = linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 2])[1][:, 0]
        mask = raw_component(orient(torch.from_numpy(vectors)[None]), grid)[0]
        if index:
            overlap = (mask & previous).sum() / (mask | previous).sum()
            if overlap > 0.5 or mask.double().mean() <= 0.01:
                mask = torch.zeros_like(mask)
        masks.append(mask & ~union)
        union, previous = union | mask, mask
    return torch.stack(masks)


if __name__ == "__main__":
    raise SystemExit(main())
