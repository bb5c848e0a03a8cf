"""The command line: ``eigenseg extract``, ``evaluate``, ``train``, ``collect``, ``export``.

Exit codes: 0 all done, 1 some images or frames failed, 2 wrong usage or nothing can be written, 70 an error of eigenseg
itself, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from eigenseg._version import __version__
from eigenseg.cli.interrupts import EXIT_CODE, STOPPED, begin_work, run_process
from eigenseg.config.spelling import did_you_mean

USAGE = """\
eigenseg: objects in images and videos, found without labels

  eigenseg extract input=photos/ output.dir=out backbone=color_texture    masks for a file, folder, glob or .txt list
  eigenseg extract input=clip.mp4 output.dir=clip backbone=color_texture  tracks for a video, or a folder of frames
  eigenseg evaluate dataset=voc2007 dataset.root=VOC2007                  a method, or predictions=..., against a dataset
  eigenseg train method=found input=photos/ backbone=dino_vits8           a trainable method; torchrun for several processes
  eigenseg collect multirun/                                              the results of a sweep as one table and a plot
  eigenseg export out/ labels.json                                        a result folder as labels for training a detector
  eigenseg extract --help, and of evaluate and train                      all methods, datasets and settings
  eigenseg --version

Exit codes: 0 all done, 1 some images or frames failed, 2 wrong usage or nothing can be written, 70 an error of eigenseg
itself, 130 stopped by Ctrl-C.
"""
# EX_SOFTWARE of sysexits.h; no input is to blame, so it must not look like a failed image.
UNEXPECTED = 70
# Commands with a Hydra configuration, and those with plain arguments; each is run_<command> of its own file.
_CONFIGURED, _PLAIN = ("extract", "evaluate", "train"), ("collect", "export")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Without arguments those of the process are taken, and it ends the process."""
    if arguments is None:
        run_process(lambda: main(sys.argv[1:]))
    command, *rest = arguments or [""]
    if command in ("", "-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if command else 2
    if command == "--version":
        print(f"eigenseg {__version__}")
        return 0
    if "--version" in rest:
        return main(["--version"])
    if command not in (*_CONFIGURED, *_PLAIN):
        known = (*_CONFIGURED, *_PLAIN)
        return _fail(f"unknown command {command!r}; {did_you_mean(command, known)}known: {', '.join(known)}")
    jobs = _Jobs(command)
    try:
        with jobs.reporting():
            if command in _CONFIGURED:
                from eigenseg.cli.hydra_app import run_hydra

                run_hydra(command, jobs.run, rest)
            else:
                run_plain = _load(command)
                begin_work()
                run_plain(rest)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return EXIT_CODE
    except SystemExit as stop:  # Hydra's own options, --help and wrong ones among them
        return stop.code if isinstance(stop.code, int) else 2
    return jobs.exit_code


class _Jobs:
    """Jobs of one command line, several in a sweep; a failed one is reported and the next one starts."""

    def __init__(self, command: str) -> None:
        self.command, self.exit_code = command, 0
        self.verbose = os.environ.get("HYDRA_FULL_ERROR") == "1"

    def run(self, config: Any, overrides: Sequence[str]) -> None:
        """Run the command with a composed configuration."""
        from eigenseg.config.compose import job_folder, settle

        with self.reporting(job_folder(config.output.dir) or os.path.join("outputs", self.command)):
            settle(config, overrides)
            # Only now, so that --help and a wrong setting do not wait for torch.
            if _load(self.command)(config)["failures"]:
                self.exit_code = max(self.exit_code, 1)

    @contextlib.contextmanager
    def reporting(self, folder: str | None = None) -> Iterator[None]:
        """Print errors that are meant for users as one sentence; ``HYDRA_FULL_ERROR=1`` prints their tracebacks, too.

        Args:
            folder: of the output, where the traceback of an error that nobody expected is kept.
        """
        try:
            yield
        except (ValueError, TypeError, OSError) as error:
            if self.verbose:
                traceback.print_exc()
            self.exit_code = max(self.exit_code, _fail(str(error)))
        except Exception as error:
            if self.verbose:
                traceback.print_exc()
            self.exit_code = max(self.exit_code, _report_unexpected(error, folder))


def _load(command: str) -> Any:
    return getattr(importlib.import_module(f"eigenseg.cli.{command}"), f"run_{command}")


def _report_unexpected(error: Exception, folder: str | None) -> int:
    """Keep a traceback in the output folder, else in the temporary one, and say so in one line."""
    text = "".join(traceback.format_exception(error))
    line = " ".join(traceback.format_exception_only(error)[-1].split())
    for place in (folder, tempfile.gettempdir()):
        if place is None or not os.path.isdir(place):
            continue
        with contextlib.suppress(OSError):
            handle, path = tempfile.mkstemp(prefix="eigenseg-error-", suffix=".txt", dir=place, text=True)
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(f"eigenseg {__version__}, {' '.join(sys.argv)}\n{text}")
            print(f"error: unexpected {line}; please report it with {path}", file=sys.stderr)
            return UNEXPECTED
    print(f"error: unexpected {line}; please report it\n{text}", file=sys.stderr)
    return UNEXPECTED


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
