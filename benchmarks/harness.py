"""Timing of contestants in separate processes, one after the other; results and environment as JSON.

SciPy's BLAS threads keep spinning after a call and slow down the next one in the same process by a factor of three. So
every contestant has its own process, pauses between its turns, and makes untimed calls before the timed ones.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contestants import CONTESTANTS, Answer
from benchmarks.graphs import make_features

RESULTS = Path(__file__).parent / "results"
PAUSE = 0.5  # seconds until the last contestant's threads sleep
_WINDOW = 0.3  # seconds until threads are awake and the clock speed has settled
_SHORT = 1.0  # seconds; a longer call needs no warm-up


@dataclass(frozen=True)
class Cell:
    """A problem: family of graphs, tokens per image, images per batch, device and threads."""

    family: str
    tokens: int
    batch: int
    device: str = "cpu"
    threads: int = 2
    folder: str | None = None


class Worker:
    """A contestant in its own process.

    Args:
        name: name of the contestant.
        cell: the problem.
        images: number of images of the batch to solve; a slow contestant need not solve all, times are per image.
    """

    def __init__(self, name: str, cell: Cell, images: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, cell, images), daemon=True)
        self._process.start()

    def __call__(self, request: str) -> Any:
        """``build``, ``solve``, ``whole``: seconds per image; ``answer``: an ``Answer``; ``memory``: peak MB per image."""
        self._pipe.send(request)
        reply = self._pipe.recv()
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, name: str, cell: Cell, images: int) -> None:
    torch.set_num_threads(cell.threads)
    contestant, device = CONTESTANTS[name], torch.device(cell.device)
    features = make_features(cell.family, cell.batch, cell.tokens, cell.folder)[:images].to(device)
    warm = contestant.build(make_features("noisy", 1, 400).to(device))
    contestant.solve(warm)  # load code and start threads before memory is measured
    before = _peak_memory(device, reset=True)
    graphs = contestant.build(features)
    requests: dict[str, Callable[[], Any]] = {
        "build": lambda: contestant.build(features),
        "solve": lambda: contestant.solve(graphs),
        "whole": lambda: contestant.solve(contestant.build(features)),
    }
    while True:
        request = pipe.recv()
        try:
            if request == "answer":
                pipe.send(contestant.answer(graphs, contestant.solve(graphs)))
            elif request == "memory":
                contestant.solve(graphs)
                pipe.send((_peak_memory(device) - before) / images)
            else:
                pipe.send(_seconds(requests[request], device) / images)
        except Exception as problem:  # the parent decides what a failure means
            pipe.send(problem)


def _seconds(action: Callable[[], Any], device: torch.device) -> float:
    """Median over the calls that fit into the window, after a window of untimed ones; at least one call."""
    for _ in range(2):
        seconds, begin = [], time.perf_counter()
        while not seconds or time.perf_counter() - begin < _WINDOW:
            _wait_for(device)
            start = time.perf_counter()
            action()
            _wait_for(device)
            seconds.append(time.perf_counter() - start)
        if seconds[0] > _SHORT:
            break  # such a call is its own warm-up
    return statistics.median(seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak_memory(device: torch.device, reset: bool = False) -> float:
    """Peak memory since the last reset, in MB; on a CPU, Linux's peak resident memory."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 1e6
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def wrong_bits(answer: Answer, reference: Answer) -> int:
    """Number of tokens on the other side than in the reference; the sign of an eigenvector is arbitrary."""
    count = min(len(answer.bits), len(reference.bits))
    ours, theirs = answer.bits[:count], reference.bits[:count]
    return int(np.minimum((ours != theirs).sum(axis=1), (ours == theirs).sum(axis=1)).sum())


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def environment(threads: int, device: str) -> dict[str, Any]:
    """Date, machine, versions and commit."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    packages = ("eigenseg", "torch", "scipy", "numpy", "timm")
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cpu": names[0] if names else platform.processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def save(name: str, record: dict[str, Any]) -> Path:
    """Write results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path
