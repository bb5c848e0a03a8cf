"""Random numbers of a step as a function of the step, and algorithms that repeat themselves."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_step(seed: int, number: int, rank: int = 0) -> None:
    """Seed torch's, NumPy's and Python's global generators for one batch of a process.

    Args:
        seed: of the training.
        number: of the batch.
        rank: of the process.
    """
    words = np.random.SeedSequence([seed, number, rank]).generate_state(4)
    torch.manual_seed(int(words[0]) << 32 | int(words[1]))  # CUDA's generators with it
    np.random.seed(int(words[2]))  # noqa: NPY002 - libraries draw from it
    random.seed(int(words[3]))


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Give the global generators of the CPU back as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch choose algorithms whose results repeat bit by bit, and warn where it has none."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself with a workspace of fixed size
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
