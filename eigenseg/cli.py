"""The command line: ``eigenseg extract``, ``evaluate``, ``train``.

Exit codes: 0 all done, 1 some pictures failed, 2 wrong usage or nothing can be written, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eigenseg._version import __version__

USAGE = """\
eigenseg: objects in pictures, found without labels

  eigenseg extract input=photos/ output.dir=out backbone=color_texture    masks for a file, folder, glob or .txt list
  eigenseg extract --help                                                 all methods, backbones and settings
  eigenseg evaluate, eigenseg train                                       not in this version
  eigenseg --version
"""
NOT_YET = {
    "evaluate": "eigenseg evaluate is not in this version: there are no dataset readers and metrics yet",
    "train": "eigenseg train is not in this version: there is no trainable method yet",
}
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "opencv-python-headless", "pillow", "hydra-core")
# What a file name may hold that Hydra's grammar reads as something else.
_GRAMMAR = frozenset("()[]{}:=,'\"#&!~ ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if command in ("", "-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if command else 2
    if command == "--version":
        print(f"eigenseg {__version__}")
        return 0
    if command in NOT_YET:
        return _fail(NOT_YET[command])
    if command != "extract":
        return _fail(f"unknown command {command!r}; known: extract, evaluate, train")
    runs = _Runs()
    try:
        with _one_line_errors(runs):
            _run_hydra("extract", lambda config: runs.add(run_extract, config), rest)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except SystemExit as stop:  # Hydra's own options, --help and wrong ones among them
        return stop.code if isinstance(stop.code, int) else 2
    return runs.exit_code


def run_extract(config: Any) -> dict[str, Any]:
    """Extract masks as configured (``ExtractConfig``); returns the counts of the summary line.

    Raises:
        ValueError, TypeError, FileNotFoundError: if the configuration is wrong.
        OutputError: if results cannot be written.
    """
    from omegaconf import OmegaConf
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from eigenseg.config import build_parts
    from eigenseg.data import find_images
    from eigenseg.data.results import ResultFolder
    from eigenseg.predictor import Predictor
    from eigenseg.segment.extraction import extract

    if OmegaConf.is_missing(config, "input"):
        raise ValueError("input is missing; say what to read: input=photos/ (picture, folder, glob pattern or .txt list)")
    _limit_threads(config.runtime.threads)
    sources = find_images(config.input)
    predictor = Predictor(**build_parts(config))
    root = Path(_output_folder(config))
    output = {name: config.output[name] for name in ("labels", "overlays", "masks", "heatmap")}
    folder = ResultFolder(root, _describe_run(config, predictor), resume=config.resume, **output)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    waiting = sum(not folder.holds(source) for source in sources)
    with Progress(*columns, console=console, transient=True, disable=not (console.is_terminal and waiting)) as progress:
        task = progress.add_task("extracting", total=waiting)
        summary = extract(
            predictor.predict,
            sources,
            folder,
            batch_size=config.runtime.batch_size,
            workers=config.runtime.workers,
            on_outcome=lambda _: progress.advance(task),
        )
    for source in sources:
        record = folder.manifest.records[source.name]
        if record["status"] == "failed":
            print(f"failed: {source.name}: {record['error']}", file=sys.stderr)
    done = f", {summary.skipped} already done" if summary.skipped else ""
    print(
        f"{summary.images} images, {summary.instances} instances, {summary.images_per_second:.1f} images/s, "
        f"{summary.failures} failed{done} -> {root}"
    )
    if config.output.overlays:
        print(f"look at {root / 'overlays'}")
    return {"output": str(root), **vars(summary)}


def _describe_run(config: Any, predictor: Any) -> dict[str, Any]:
    """What ``run.json`` says; ``identity`` holds everything that the results depend on."""
    from omegaconf import OmegaConf

    resolved: Any = OmegaConf.to_container(config, resolve=True)
    identity = {name: resolved[name] for name in ("backbone", "method")}
    identity["preprocess"] = vars(predictor.preprocess)
    identity["weights"] = predictor.backbone.describe()["weights"]
    identity["input"] = os.path.abspath(config.input)
    return {
        "identity": identity,
        "config": resolved,
        "device": str(predictor.device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "eigenseg": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def _output_folder(config: Any) -> str:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if config.output.dir is not None:
        return str(config.output.dir)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return str(HydraConfig.get().runtime.output_dir)
    return os.path.join("outputs", "extract")


def _run_hydra(name: str, task: Callable[[Any], None], arguments: Sequence[str]) -> None:
    import hydra

    from eigenseg.config import CONFIG_MODULE

    entry = hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=name)(task)
    saved = sys.argv
    # Hydra's parser wants all overrides in one row; people write them in any order.
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    options = [argument for argument in arguments if argument not in overrides]
    sys.argv = [f"eigenseg {name}", *options, *(_quote_path(override) for override in overrides)]
    try:
        with _messages_on_stderr():
            entry()
    finally:
        sys.argv = saved


def _quote_path(argument: str) -> str:
    """Quote the value of ``key=value`` if it is an existing path that Hydra's grammar would misread."""
    key, equals, value = argument.partition("=")
    if equals and _GRAMMAR & set(value) and Path(value).exists():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{key}='{escaped}'"
    return argument


class _Runs:
    """Jobs of one command line, several in a sweep; a failed one is reported and the next one starts."""

    def __init__(self) -> None:
        self.exit_code = 0
        self.verbose = os.environ.get("HYDRA_FULL_ERROR") == "1"

    def add(self, run: Callable[[Any], dict[str, Any]], config: Any) -> None:
        with self.reporting():
            if run(config)["failures"]:
                self.exit_code = max(self.exit_code, 1)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Print errors that are meant for users as one sentence; ``HYDRA_FULL_ERROR=1`` keeps their tracebacks."""
        try:
            yield
        except (ValueError, TypeError, OSError) as error:
            if self.verbose:
                raise
            self.exit_code = _fail(str(error))


@contextlib.contextmanager
def _one_line_errors(runs: _Runs) -> Iterator[None]:
    """Report what Hydra itself finds wrong like everything else."""
    from eigenseg.config import readable_errors

    # Hydra would print a traceback and exit by itself; asked for the full error it lets the exception through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with runs.reporting(), readable_errors():
            yield
    finally:
        if not runs.verbose:
            del os.environ["HYDRA_FULL_ERROR"]


def _limit_threads(threads: int | None) -> None:
    if threads is None:
        return
    import torch
    from threadpoolctl import threadpool_limits

    if threads < 1:
        raise ValueError(f"runtime.threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)
    threadpool_limits(threads)


@contextlib.contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Show what the library logs, as long as the command runs."""
    logger, handler = logging.getLogger("eigenseg"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
