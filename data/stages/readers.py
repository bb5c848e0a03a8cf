"""Threads that are given up where they hang: a stalled network mount must not keep a process from ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

# Seconds that a reader gets to finish when the others are done: far more than a photograph takes to decode.
_PATIENCE = 2.0


class ReaderThreads:
    """Threads for work that may hang. Unlike those of an executor they do not outlive an interpreter that wants to exit.

    Args:
        count: of threads; they are started when they are needed.
        name: beginning of their names.

    Example:
        >>> done = []
        >>> readers = ReaderThreads(2, "read")
        >>> for i in range(3):
        ...     readers.submit(done.append, i)
        >>> readers.finish()
        >>> sorted(done)
        [0, 1, 2]
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def submit(self, work: Callable[[Any], object], argument: Any) -> None:
        """Have a thread call ``work(argument)``, which handles its own exceptions."""
        self._tasks.put(lambda: work(argument))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        """Wait for everything that was submitted."""
        self._end()
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Drop what has not begun, and wait a moment for what has; a thread that hangs is left behind."""
        self._stopped = True
        self._end()
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _end(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self._stopped:
                task()
            del task  # or it would keep its item until there is another one
