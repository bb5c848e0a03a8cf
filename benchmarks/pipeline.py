"""The pipeline: how well stages overlap, and images per second of a whole run next to another checkout.

::

    python -m benchmarks.pipeline                      # made-up stages of known duration, then a real run
    python -m benchmarks.pipeline --before CHECKOUT    # the real run in turn with another checkout

The real run is ``eigenseg extract`` on 400 JPEG crops of scikit-learn's photographs, 640 x 480, with ``color_texture`` and
TokenCut, in fresh processes with one interpreter and its packages. Images per second are those of the summary line:
reading, computing and writing, without the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

from benchmarks.harness import environment, median_ratio, save
from eigenseg.data.stages import Batching, Stages, StageTimes, run

ROOT = Path(__file__).parents[1]
COUNT, SIZE = 400, (480, 640)
# Milliseconds per item of prepare, infer, refine and finish; each stage is the slowest one once.
LOADS = {"prepare": (40, 5, 5, 10), "infer": (10, 20, 5, 10), "refine": (10, 5, 20, 10), "finish": (10, 5, 5, 40)}
_SCRIPT = "import sys; from eigenseg.cli.main import main; sys.exit(main())"


def main() -> int:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout of this repository, such as a git worktree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=COUNT)
    parser.add_argument("--settings", nargs="*", default=[], help="further settings, such as postprocess=bilateral_fine")
    options = parser.parse_args()
    overlap = [measure_overlap(slowest, milliseconds) for slowest, milliseconds in LOADS.items()]
    table = Table(title="stages that sleep, batch 8, 2 threads for prepare and finish")
    for column in ("slowest stage", "items/s", "its own items/s", "reached", "one after the other"):
        table.add_column(column, justify="right")
    for row in overlap:
        numbers = (f"{row[name]:.1f}" for name in ("throughput", "bound"))
        table.add_row(row["slowest"], *numbers, f"{row['reached']:.0%}", f"{row['sequential']:.1f}")
    Console().print(table)
    checkouts = {"now": ROOT, **({"before": options.before.resolve()} if options.before else {})}
    real = measure_runs(checkouts, options.rounds, options.images, options.settings)
    for name, row in real["checkouts"].items():
        Console().print(f"{name}: {row['images_per_second']} images/s, stages {row['stages']}, peak {row['peak_mb']} MB")
    if "now_over_before" in real:
        Console().print(f"now / before: {real['now_over_before']:.2f}")
    machine = environment(threads=torch.get_num_threads(), device="cpu")
    save("pipeline-cpu", {"environment": machine, "overlap": overlap, "real": real})
    return 0


@dataclass(frozen=True)
class Item:
    """An item without content."""

    bucket: None = None
    nbytes: int = 1


def measure_overlap(slowest: str, milliseconds: tuple[int, int, int, int], count: int = 160) -> dict[str, Any]:
    """Items per second of stages that only sleep, and what the slowest one would allow alone."""
    prepare, infer, refine, finish = (value / 1000 for value in milliseconds)

    def prepared(item: int) -> Item:
        time.sleep(prepare)
        return Item()

    def inferred(batch: Sequence[Item]) -> list[int]:
        time.sleep(infer * len(batch))
        return [0] * len(batch)

    def refined(batch: Sequence[Item], results: Sequence[int]) -> Sequence[int]:
        time.sleep(refine * len(batch))
        return results

    stages = Stages(prepared, inferred, lambda *_: time.sleep(finish), refined)
    batching, times = Batching(batch_size=8, workers=2), StageTimes()
    start = time.perf_counter()
    for _ in run(range(count), stages, batching, times):
        pass
    throughput = count / (time.perf_counter() - start)
    bound = 1 / max(prepare / 2, infer, refine, finish / 2)
    assert times.bottleneck() == slowest
    sequential = 1 / (prepare / 2 + infer + refine + finish / 2)
    return {
        "slowest": slowest,
        "milliseconds": milliseconds,
        "throughput": throughput,
        "bound": bound,
        "reached": throughput / bound,
        "sequential": sequential,
    }


def measure_runs(checkouts: dict[str, Path], rounds: int, count: int, settings: Sequence[str]) -> dict[str, Any]:
    """Whole runs of all checkouts in turn."""
    speeds: dict[str, list[float]] = {name: [] for name in checkouts}
    details: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        write_photos(photos, count)
        for turn in range(rounds):
            for name, checkout in checkouts.items():
                output = Path(folder, f"{name}{turn}")
                speed, peak = run_once(checkout, photos, output, settings)
                speeds[name].append(speed)
                stages = json.loads((output / "run.json").read_text()).get("times", {})
                details[name] = {"stages": stages.get("stages"), "peak_mb": peak}
    rows = {
        name: {"images_per_second": round(statistics.median(values), 2), "all": values, **details[name]}
        for name, values in speeds.items()
    }
    result: dict[str, Any] = {"images": count, "settings": list(settings), "checkouts": rows}
    if "before" in speeds:
        result["now_over_before"] = median_ratio(speeds["now"], speeds["before"])
    return result


def write_photos(folder: Path, count: int) -> None:
    """JPEG crops of scikit-learn's two photographs, each another one."""
    folder.mkdir()
    rng, photos = np.random.default_rng(0), load_sample_images().images
    for i in range(count):
        photo = Image.fromarray(photos[i % 2])
        side = float(rng.uniform(0.5, 0.95))
        width, height = int(photo.width * side), int(photo.height * side)
        x, y = int(rng.integers(photo.width - width + 1)), int(rng.integers(photo.height - height + 1))
        crop = photo.crop((x, y, x + width, y + height)).resize(SIZE[::-1], Image.Resampling.LANCZOS)
        crop.save(folder / f"{i:04d}.jpg", quality=90)


def run_once(checkout: Path, photos: Path, output: Path, settings: Sequence[str]) -> tuple[float, int]:
    """Images per second of one run, and the most memory its process took, in MB."""
    arguments = [f"input={photos}", f"output.dir={output}", "backbone=color_texture", "runtime.device=cpu", *settings]
    command = [sys.executable, "-c", _SCRIPT, "extract", *arguments]
    process = subprocess.Popen(
        command, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    found = re.search(r"([\d.]+) images/s", printed)
    if status or found is None:
        raise RuntimeError(f"{checkout}: the run failed and printed {printed!r}")
    return float(found[1]), usage.ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
