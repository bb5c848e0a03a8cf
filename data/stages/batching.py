"""Which items share a batch: those of one bucket within a window, decided by their order and sizes alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from eigenseg.data.checks import check_integer

T = TypeVar("T")
# Images of four grids fill their batches side by side, and an item waits for no more than three batches of others.
_WINDOW_BATCHES = 4
_MEGABYTE = 2**20


@dataclass(frozen=True)
class Batching:
    """How much happens at a time.

    Args:
        batch_size: items that are inferred together.
        workers: threads that read and prepare, and as many that encode and write.
        buffer_mb: MiB of decoded items between reading and writing; a larger item passes alone.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    batch_size: int = 8
    workers: int = 2
    buffer_mb: int = 1024  # a thousand images of 640 x 480, or one of 100 megapixels

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "buffer_mb"):
            check_integer(name, getattr(self, name), 1)

    @property
    def window(self) -> int:
        """Items among which a batch is filled."""
        return _WINDOW_BATCHES * self.batch_size if self.batch_size > 1 else 1

    @property
    def buffer_bytes(self) -> int:
        """The buffer in bytes."""
        return self.buffer_mb * _MEGABYTE


class BatchPlan(Generic[T]):
    """Collects items by bucket. A bucket leaves when it is full, or when its oldest item holds up the window or the buffer.

    Example:
        >>> plan = BatchPlan(Batching(batch_size=2))
        >>> [list(plan.add(name, i, bucket, 1)) for i, (name, bucket) in enumerate(["ax", "by", "cx"])]
        [[], [], [['a', 'c']]]
        >>> list(plan.rest())
        [['b']]
    """

    def __init__(self, batching: Batching) -> None:
        self.batching = batching
        self._pending: dict[Hashable, list[tuple[int, T]]] = {}
        self._sizes: deque[tuple[int, int]] = deque()  # (number, bytes) since the oldest pending item
        self._bytes = 0

    def make_room(self, number: int, nbytes: int) -> Iterator[list[T]]:
        """The batches that must leave before an item of this number and size is waited for."""
        while self._pending and (
            number - self._oldest() >= self.batching.window or self._bytes + nbytes > self.batching.buffer_bytes
        ):
            yield self._leave(next(iter(self._pending)))

    def add(self, item: T, number: int, bucket: Hashable, nbytes: int) -> Iterator[list[T]]:
        """Take an item; the batch that it fills, if any."""
        self._pending.setdefault(bucket, []).append((number, item))
        self._sizes.append((number, nbytes))
        self._bytes += nbytes
        if len(self._pending[bucket]) == self.batching.batch_size:
            yield self._leave(bucket)

    def rest(self) -> Iterator[list[T]]:
        """All batches that did not fill up, the oldest first."""
        while self._pending:
            yield self._leave(next(iter(self._pending)))

    def _oldest(self) -> int:
        # A bucket enters the dict with its first item, so the first bucket holds the oldest item.
        return next(iter(self._pending.values()))[0][0]

    def _leave(self, bucket: Hashable) -> list[T]:
        batch = [item for _, item in self._pending.pop(bucket)]
        oldest = self._oldest() if self._pending else float("inf")
        # Items that left before an older one stay counted: they may still wait for it, and time decides nothing here.
        while self._sizes and self._sizes[0][0] < oldest:
            self._bytes -= self._sizes.popleft()[1]
        return batch
