"""Compare the spectral solver with common alternatives: ``python -m benchmarks.solver`` prints tables and writes JSON.

Contestants take turns, each in its own process; a ratio is the median over rounds of the ratio within a round. Times come
with evidence: passes, residual, bits that differ from the published call, unproven tokens, dense fallbacks. A time with
wrong bits is void. If the times of the published call vary by more than half, the cell is measured again; after the third
attempt it is reported as unsteady and the command fails.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contestants import CONTESTANTS, ON_CPU, ON_CUDA, REFERENCE, Eigenseg
from benchmarks.graphs import FAMILIES
from benchmarks.harness import PAUSE, Cell, Worker, environment, median_ratio, save, wrong_bits

_SPREAD = 1.5  # ratio of the reference's slowest to fastest time above which the machine was busy
_TRIES = 3
# Measured bytes and operations per second of an H200, for lower bounds of GPU times.
_H200_BYTES, _H200_BF16 = 4.3e12, 788e12


def main() -> int:
    """Run the cells given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[900, 3600])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--photos", help="folder of photographs; scikit-learn's two by default")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", choices=list(CONTESTANTS), help="contestants besides eigenseg and the published call"
    )
    parser.add_argument("--name", help="name of the file in results/; default: solver-<device>")
    options = parser.parse_args()
    if options.rounds < 1 or min(options.batch) < 1 or any(int(n**0.5) ** 2 != n for n in options.tokens):
        parser.error("--rounds and --batch must be at least 1, --tokens square numbers")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: CUDA is not available")
    if options.photos and not Path(options.photos).is_dir():
        parser.error(f"--photos: no folder {options.photos}")
    names = options.only or (ON_CUDA if options.device == "cuda" else ON_CPU)
    names = ["eigenseg", REFERENCE, *(name for name in names if name not in ("eigenseg", REFERENCE))]
    console, cells, steady = Console(width=150), [], True
    for tokens in options.tokens:
        for batch in options.batch:
            for family in options.families:
                cell = Cell(family, tokens, batch, options.device, options.threads, options.photos)
                for _ in range(_TRIES):
                    measured = measure(cell, names, options.rounds)
                    if measured["spread"] <= _SPREAD:
                        break
                steady &= measured["spread"] <= _SPREAD
                console.print(table(measured))
                cells.append(measured)
                record = {**environment(options.threads, options.device), "cells": cells}
                written = save(
                    options.name or f"solver-{options.device}", record
                )  # after every cell, so that an interruption loses nothing
    console.print(f"written: {written}")
    return 0 if steady else 1


def measure(cell: Cell, names: list[str], rounds: int) -> dict[str, Any]:
    """Time all contestants on one cell, in turn.

    Args:
        cell: the problem.
        names: contestants; the first is ours, the second the reference.
        rounds: number of turns.
    """
    # Contestants that take seconds per image solve only one image of the batch; times are per image.
    quick = {name for name in names if isinstance(CONTESTANTS[name], Eigenseg) or cell.tokens <= 1000 or "batched" in name}
    workers = {}
    for name in names:
        on = (
            cell
            if cell.device == "cpu" or name != REFERENCE
            else Cell(cell.family, cell.tokens, cell.batch, folder=cell.folder)
        )
        workers[name] = Worker(name, on, cell.batch if name in quick else 1)
    try:
        answers = {name: workers[name]("answer") for name in names}
        memory = workers["eigenseg"]("memory")
        times: dict[str, dict[str, list[float]]] = {name: {"solve": []} for name in names}
        for name in names[:2]:
            times[name] |= {"build": [], "whole": []}
        for _ in range(rounds):
            for quantity in ("solve", "build", "whole"):
                for name in names:
                    if quantity in times[name]:
                        time.sleep(PAUSE)
                        times[name][quantity].append(workers[name](quantity))
    finally:
        for worker in workers.values():
            worker.close()
    ours, reference = times["eigenseg"], times[REFERENCE]
    rows = []
    for name in names:
        answer, wrong = answers[name], wrong_bits(answers[name], answers[REFERENCE])
        rows.append(
            {
                "name": name,
                "milliseconds": {quantity: 1e3 * min(seconds) for quantity, seconds in times[name].items()},
                "reference_over_this": median_ratio(reference["solve"], times[name]["solve"]),
                "this_over_eigenseg": median_ratio(times[name]["solve"], ours["solve"]),
                "residual": answer.residual,
                "wrong_bits": wrong,
                "passes": answer.passes,
                "unproven": answer.unproven,
                "fallbacks": answer.fallbacks,
            }
        )
    return {
        "family": cell.family,
        "tokens": cell.tokens,
        "batch": cell.batch,
        "rounds": rounds,
        "spread": max(reference["solve"]) / min(reference["solve"]),
        "build_ratio": median_ratio(reference["build"], ours["build"]),
        "whole_ratio": median_ratio(reference["whole"], ours["whole"]),
        "peak_megabytes_an_image": memory,
        "floor_ms": floor(cell, max(answers["eigenseg"].passes or [0])) if cell.device == "cuda" else None,
        "rows": rows,
    }


def floor(cell: Cell, passes: int) -> dict[str, float]:
    """Lower bound of milliseconds per image on an H200: the matrix is read once per pass, cosines are float32."""
    reads = passes * 2 * cell.tokens**2 / _H200_BYTES
    multiplications = passes * 2 * 48 * cell.tokens**2 / _H200_BF16
    return {"solve": 1e3 * max(reads, multiplications), "dense": 1e3 * cell.tokens**3 * 8 / 6 / _H200_BYTES}


def table(measured: dict[str, Any]) -> Table:
    """The results of a cell as a table."""
    title = f"{measured['family']}, N = {measured['tokens']}, batch {measured['batch']}: milliseconds per image"
    unsteady = "" if measured["spread"] <= _SPREAD else "; UNSTEADY"
    shown = Table(
        title=title,
        caption=f"whole: published / eigenseg = {measured['whole_ratio']:.1f}; build {measured['build_ratio']:.1f}; "
        f"peak {measured['peak_megabytes_an_image']:.0f} MB per image; spread of the published call "
        f"{measured['spread']:.2f}{unsteady}" + (f"; floor {measured['floor_ms']}" if measured["floor_ms"] else ""),
    )
    for column in ("", "build", "solve", "whole", "published / this", "this / eigenseg", "residual", "wrong", "unproven"):
        shown.add_column(column, justify="left" if not column else "right")
    for column in ("fallbacks", "passes"):
        shown.add_column(column, justify="right")
    for row in measured["rows"]:
        milliseconds, void = row["milliseconds"], row["wrong_bits"] > 0
        ratios = ["void", "void"] if void else [f"{row['reference_over_this']:.1f}", f"{row['this_over_eigenseg']:.2f}"]
        shown.add_row(
            row["name"],
            *(
                f"{milliseconds[quantity]:.1f}" if quantity in milliseconds else ""
                for quantity in ("build", "solve", "whole")
            ),
            *ratios,
            f"{row['residual']:.0e}",
            str(row["wrong_bits"]),
            *("" if row[key] is None else str(row[key]) for key in ("unproven", "fallbacks")),
            " ".join(str(passes) for passes in sorted(set(row["passes"] or []))),
        )
    return shown


if __name__ == "__main__":
    raise SystemExit(main())
