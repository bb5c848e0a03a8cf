"""Processes that were forked after their parent had computed: its threads are missing in them, and work for them waits."""

from __future__ import annotations

import logging
import os

import torch

logger = logging.getLogger(__name__)

_process: int | None = None  # the one that computed last, this one or the parent that it was forked from


def check_fork() -> None:
    """Call before computing: a fork of a process that has computed goes on with one thread of torch, and says so.

    With more it would wait for ever for threads that were not copied. Workers that are spawned have all their threads.
    """
    global _process
    forked = _process not in (None, os.getpid())
    _process = os.getpid()
    if forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        logger.warning(
            "this process was forked from one that had computed, whose threads it lacks: it goes on with one thread. "
            "Start workers with multiprocessing.get_context('spawn') instead"
        )
