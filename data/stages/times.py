"""How long every stage was busy, and which one the others wait for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

# Names of the stages; ``prepare`` includes reading, ``finish`` encoding and writing.
PREPARE, INFER, REFINE, FINISH = "prepare", "infer", "refine", "finish"


class StageTimes:
    """Busy seconds by stage; threads add to it.

    Example:
        >>> times = StageTimes()
        >>> times.seconds.update({"prepare": 3.0, "infer": 2.0})
        >>> times.threads["prepare"] = 2
        >>> times.bottleneck()
        'infer'
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys((PREPARE, INFER, REFINE, FINISH), 0.0)
        self.threads: dict[str, int] = {}
        self.wall = 0.0
        self._lock = threading.Lock()

    def add(self, stage: str, start: float) -> float:
        """Count the time since ``start`` (of ``time.perf_counter``) for a stage; returns it in milliseconds."""
        seconds = time.perf_counter() - start
        with self._lock:
            self.seconds[stage] += seconds
        return 1000 * seconds

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the wall clock."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - start

    def bottleneck(self) -> str | None:
        """The stage whose threads were busy longest, on average; None if nothing ran."""
        loads = {stage: seconds / self.threads.get(stage, 1) for stage, seconds in self.seconds.items()}
        busiest = max(loads, key=loads.__getitem__)
        return busiest if loads[busiest] else None

    def summary(self) -> dict[str, Any]:
        """As json values: wall-clock seconds, busy seconds and threads by stage, the bottleneck."""
        stages = {
            stage: {"seconds": round(seconds, 3), "threads": self.threads.get(stage, 1)}
            for stage, seconds in self.seconds.items()
            if seconds
        }
        return {"seconds": round(self.wall, 3), "stages": stages, "bottleneck": self.bottleneck()}
