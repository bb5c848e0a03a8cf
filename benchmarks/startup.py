"""Startup time of imports and of the command line: ``python -m benchmarks.startup [--before CHECKOUT]``.

Every run is a fresh process; times are wall clock, medians after an untimed run that fills file caches and compiles
bytecode. ``--before`` times another checkout of this repository with the same interpreter and packages, in turn run by run;
a ratio is the median over rounds of the ratio within a round. ``import torch`` is the same work in both: their difference
is noise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import environment, median_ratio, save

ROOT = Path(__file__).parents[1]
IMPORTS = {
    "import eigenseg": "import eigenseg",
    "import solve_ncut": "from eigenseg.discovery.spectral import solve_ncut",
    "import torch": "import torch",
}
COMMANDS = {"eigenseg --version": ["--version"], "eigenseg extract --help": ["extract", "--help"]}
# The installed script belongs to one checkout, so every checkout's own entry point is called as the script would.
_SCRIPT = "import sys; from {module} import {function}; sys.exit({function}())"
_LOADED = """import sys; from {module} import {function}; from eigenseg.discovery.spectral import solve_ncut
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "eigenseg"), sep="\\n")"""


def main() -> int:
    """Time all tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout of this repository, such as a git worktree")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    checkouts = {"now": ROOT}
    if options.before:
        checkouts["before"] = options.before.resolve()
        if not (options.before / "pyproject.toml").is_file():
            parser.error(f"--before: {options.before} is not a checkout of this repository")
    for checkout in checkouts.values():
        check_imports(checkout)
    rows = [measure(task, checkouts, options.rounds) for task in (*IMPORTS, *COMMANDS)]
    table = Table(title=f"seconds, fresh processes, median of {options.rounds}")
    for column in ("", *checkouts, *(["before / now"] if options.before else [])):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        ratio = [f"{row['before_over_now']:.2f}"] if options.before else []
        table.add_row(row["task"], *(f"{seconds:.3f}" for seconds in row["median"].values()), *ratio)
    Console(width=120).print(table)
    record: dict[str, Any] = environment(torch.get_num_threads(), "cpu")
    if options.before:
        record["before_commit"] = commit(options.before)
    print(save("startup-cpu", {**record, "rounds": options.rounds, "rows": rows}))
    return 0


def measure(task: str, checkouts: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Time one task in all checkouts, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    commands = {name: command(task, checkout) for name, checkout in checkouts.items()}
    for name, checkout in checkouts.items():
        run(checkout, commands[name])  # warm-up
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            start = time.perf_counter()
            run(checkout, commands[name])
            seconds[name].append(time.perf_counter() - start)
    return {
        "task": task,
        "median": {name: statistics.median(values) for name, values in seconds.items()},
        "seconds": seconds,
        "before_over_now": median_ratio(seconds["before"], seconds["now"]) if "before" in seconds else None,
    }


def command(task: str, checkout: Path) -> list[str]:
    """Arguments of the interpreter for one task."""
    if task in IMPORTS:
        return ["-c", IMPORTS[task]]
    return ["-c", _SCRIPT.format(**entry_point(checkout)), *COMMANDS[task]]


def entry_point(checkout: Path) -> dict[str, str]:
    """``module`` and ``function`` of a checkout's ``eigenseg`` command."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["eigenseg"].split(":")
    return {"module": module, "function": function}


def run(checkout: Path, arguments: list[str]) -> str:
    """Standard output of a fresh interpreter that imports eigenseg from a checkout.

    Raises:
        RuntimeError: if it fails.
    """
    variables = {**os.environ, "PYTHONPATH": str(checkout)}
    # -P: the working directory is not searched for modules.
    done = subprocess.run([sys.executable, "-P", *arguments], env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{checkout}: python {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def check_imports(checkout: Path) -> None:
    """Raise if a process of a checkout imports eigenseg's modules from elsewhere; an editable install could supply them.

    Raises:
        RuntimeError: naming the first such file.
    """
    for file in run(checkout, ["-c", _LOADED.format(**entry_point(checkout))]).splitlines():
        if not Path(file).is_relative_to(checkout):
            raise RuntimeError(f"{checkout}: {file} was imported")


def commit(checkout: Path) -> str:
    """Commit of a checkout, as ``environment`` names it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
