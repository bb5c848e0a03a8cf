"""Ctrl-C ends the process of a command at once, in one line, at whatever moment it comes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

STOPPED = "\nstopped; finished items are kept, the same command with the same output.dir resumes"
EXIT_CODE = 130  # what shells report of a program that Ctrl-C ended


def run_process(command: Callable[[], int]) -> NoReturn:
    """Run a command as the whole process and exit with its code.

    Until ``begin_work`` nothing has to be cleaned up, and Ctrl-C exits at once: raised in the middle of an import of a
    compiled module, ``KeyboardInterrupt`` would abort the process or come out as another error.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where Ctrl-C is ignored, as after nohup
        signal.signal(signal.SIGINT, _exit_at_once)
    code = command()
    if code == EXIT_CODE:
        _exit(code)
    sys.exit(code)


def begin_work() -> None:
    """From now on Ctrl-C raises ``KeyboardInterrupt``, as what is being written has to be finished."""
    if signal.getsignal(signal.SIGINT) is _exit_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, f"{STOPPED}\n".encode())
    _exit(EXIT_CODE)


def _exit(code: int) -> NoReturn:
    """Exit without waiting for threads: one of them may hang in a read that never returns."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):  # closed, or interrupted while it was written
            continue
    os._exit(code)
