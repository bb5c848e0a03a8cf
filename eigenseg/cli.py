"""The command line: ``eigenseg extract``, ``evaluate``, ``collect``, ``export``, ``train``.

Exit codes: 0 all done, 1 some pictures failed, 2 wrong usage or nothing can be written, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eigenseg._version import __version__

USAGE = """\
eigenseg: objects in pictures, found without labels

  eigenseg extract input=photos/ output.dir=out backbone=color_texture    masks for a file, folder, glob or .txt list
  eigenseg evaluate dataset=voc2007 dataset.root=VOC2007                  a method, or predictions=..., against a data set
  eigenseg collect multirun/                                              the results of a sweep as one table and a plot
  eigenseg export out/ labels.json                                        a result folder as labels for training a detector
  eigenseg extract --help, eigenseg evaluate --help                       all methods, data sets and settings
  eigenseg train                                                          not in this version
  eigenseg --version

Exit codes: 0 all done, 1 some pictures failed, 2 wrong usage or nothing can be written, 130 stopped by Ctrl-C.
"""
NOT_YET = {
    "train": "eigenseg train is not in this version: there is no trainable method yet",
}
# Hydra's options that take a value, and those that do not; everything else is a setting, written without dashes.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
_FLAGS = ("--help", "-h", "--hydra-help", "--info", "-i", "--resolve", "--run", "-r", "--multirun", "-m", "-sc")
# Settings that are paths are taken as they are typed, whatever Hydra's grammar makes of their characters.
_PATHS = ("input", "output.dir", "backbone.weights", "predictions", "dataset.root", "dataset.images", "dataset.masks")
_COMMANDS = ("extract", "evaluate", "collect", "export", "train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if command in ("", "-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if command else 2
    if command == "--version":
        print(f"eigenseg {__version__}")
        return 0
    if "--version" in rest:
        return main(["--version"])
    if command in NOT_YET:
        return _fail(NOT_YET[command])
    if command not in _COMMANDS:
        return _fail(f"unknown command {command!r}; known: {', '.join(_COMMANDS)}")
    runs = _Runs()
    try:
        with _one_line_errors(runs, command):
            if command == "collect":
                from eigenseg.collect import run_collect

                run_collect(rest)
            elif command == "export":
                from eigenseg.export import run_export

                run_export(rest)
            elif command == "evaluate":
                from eigenseg.evaluate import run_evaluate

                _run_hydra(command, lambda config: runs.add(run_evaluate, config), rest)
            else:
                from eigenseg.extract import run_extract

                _run_hydra(command, lambda config: runs.add(run_extract, config), rest)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except SystemExit as stop:  # Hydra's own options, --help and wrong ones among them
        return stop.code if isinstance(stop.code, int) else 2
    return runs.exit_code


def _run_hydra(name: str, task: Callable[[Any], None], arguments: Sequence[str]) -> None:
    import hydra

    from eigenseg.config import CONFIG_MODULE

    entry = hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=name)(task)
    saved = sys.argv
    sys.argv = [f"eigenseg {name}", *_arrange(arguments)]
    try:
        with _messages_on_stderr():
            entry()
    finally:
        sys.argv = saved


def _arrange(arguments: Sequence[str]) -> list[str]:
    """Options first, then settings, as Hydra's parser wants them; people write them in any order.

    Raises:
        ValueError: if an argument is neither.
    """
    options, overrides, value_follows = [], [], False
    sweep = "-m" in arguments or "--multirun" in arguments
    for argument in arguments:
        if value_follows or argument.startswith("-"):
            if not value_follows and argument.split("=")[0] not in (*_WITH_VALUE, *_FLAGS):
                raise ValueError(f"unknown option {argument}; settings are written without dashes, such as input=photos/")
            options.append(argument)
            value_follows = not value_follows and argument in _WITH_VALUE
        elif "=" in argument or argument.startswith("~"):
            overrides.append(_literal_path(argument, sweep))
        else:
            raise ValueError(f"{argument!r} is no setting; write key=value, such as input={argument}")
    return [*options, *overrides]


def _literal_path(override: str, sweep: bool) -> str:
    """Quote a path for Hydra, with ~ expanded; in a sweep a comma separates values, unless a file is called so."""
    key, _, value = override.partition("=")
    if key not in _PATHS or value in ("", "null") or value[0] in "'\"":
        return override
    path = os.path.expanduser(value)
    if sweep and "," in value and not os.path.exists(path):
        return override
    escaped = path.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"{key}='{escaped}'"


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
def _one_line_errors(runs: _Runs, command: str) -> Iterator[None]:
    """Report what Hydra itself finds wrong like everything else."""
    from eigenseg.config import readable_errors

    # Hydra would print a traceback and exit by itself; asked for the full error it lets the exception through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with runs.reporting(), readable_errors(command):
            yield
    finally:
        if not runs.verbose:
            del os.environ["HYDRA_FULL_ERROR"]


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
