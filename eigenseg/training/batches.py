"""The batches of a training: which samples belong to a step, and threads that make them ahead of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from eigenseg.discovery.trainable import Samples

_AHEAD = 2  # batches made while one is computed: one to hide the loading, one for those that take longer than others
# Streams of random numbers that must not resemble each other.
_ORDER, _ITEM = 0, 1


class Batch(NamedTuple):
    """One batch."""

    content: Any  # what the samples' ``collate`` made
    names: list[str]  # of its samples


class Order:
    """The endless order of samples: one random permutation after the other.

    Args:
        count: of the samples.
        seed: of the permutations.

    Example:
        >>> order = Order(count=3, seed=0)
        >>> [order.sample(position) for position in range(6)]
        [2, 0, 1, 1, 2, 0]
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epoch, self._permutation = -1, np.zeros(0, dtype=np.int64)

    def sample(self, position: int) -> int:
        """The sample at a position from 0 on."""
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.count)
        return int(self._permutation[place])


class Batches:
    """Iterate over the batches of one process from some batch on; each is a function of the seed and its number alone.

    The samples of batch n lie at the positions n P b to (n + 1) P b of the order, for P processes with b samples each, so
    that two processes together see the batches of one process with twice the size.

    Args:
        samples: to take from.
        seed: of order and augmentation.
        batch_size: b.
        first: number of the first batch.
        rank, processes: this process among P.
        workers: threads that make samples.

    Raises:
        ValueError: if there is no sample.
    """

    def __init__(
        self,
        samples: Samples,
        seed: int,
        batch_size: int,
        first: int = 0,
        rank: int = 0,
        processes: int = 1,
        workers: int = 2,
    ) -> None:
        if not len(samples):
            raise ValueError("there is nothing to train on: the dataset has no samples")
        self.samples, self.seed, self.batch_size, self.first = samples, seed, batch_size, first
        self.rank, self.processes, self.workers = rank, processes, workers
        self.order = Order(len(samples), seed)
        self.loading = self.waiting = 0.0  # seconds that threads made samples, and that the loop waited for them
        self._lock = threading.Lock()

    def __iter__(self) -> Generator[Batch, None, None]:
        pending: deque[tuple[Future[Any], list[str]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="eigenseg-samples")
        try:
            number = self.first
            while True:
                while len(pending) <= _AHEAD:
                    pending.append(self._submit(pool, number))
                    number += 1
                future, names = pending.popleft()
                start = time.perf_counter()
                content = future.result()
                self.waiting += time.perf_counter() - start
                yield Batch(content, names)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def positions(self, number: int) -> range:
        """Positions in the order of a batch of this process."""
        first = (number * self.processes + self.rank) * self.batch_size
        return range(first, first + self.batch_size)

    def _submit(self, pool: ThreadPoolExecutor, number: int) -> tuple[Future[Any], list[str]]:
        positions = self.positions(number)
        indices = [self.order.sample(position) for position in positions]
        items = [pool.submit(self._item, *pair) for pair in zip(indices, positions, strict=True)]
        # Threads take jobs in order, so the items have been started when one waits for them here.
        return pool.submit(self._collate, items), [self.samples.name(index) for index in indices]

    def _item(self, index: int, position: int) -> Any:
        start = time.perf_counter()
        item = self.samples.item(index, np.random.default_rng([self.seed, _ITEM, position]))
        self._count(time.perf_counter() - start)
        return item

    def _collate(self, items: Sequence[Future[Any]]) -> Any:
        made = [item.result() for item in items]
        start = time.perf_counter()
        batch = self.samples.collate(made)
        self._count(time.perf_counter() - start)
        return batch

    def _count(self, seconds: float) -> None:
        with self._lock:
            self.loading += seconds
