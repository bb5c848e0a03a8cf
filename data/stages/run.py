"""Bounded stages: every item goes from any thread to the device's thread and back, in batches, in order.

::

    items -> measure, prepare   reader threads, within a budget of bytes
          -> infer              the calling thread, in batches of one bucket
          -> refine             a thread of its own, batch by batch
          -> finish             writer threads, item by item
          -> Outcome            in the order of the items

Batches are formed by the order of the items alone, never by the timing of threads, so equal inputs give equal batches. An
item that fails costs no other item, and a batch that does not fit into memory is halved.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from eigenseg.data.stages.batching import Batching, BatchPlan
from eigenseg.data.stages.budget import ByteBudget
from eigenseg.data.stages.forks import check_fork
from eigenseg.data.stages.isolate import isolate
from eigenseg.data.stages.readers import ReaderThreads
from eigenseg.data.stages.times import FINISH, INFER, PREPARE, REFINE, StageTimes

# Batches behind the device: one is refined while another is written.
_BATCHES_BEHIND = 2


class Prepared(Protocol):
    """What ``prepare`` makes of an item."""

    @property
    def bucket(self) -> Hashable:
        """Items with equal buckets may share a batch."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that the item takes until it is finished."""
        ...


I = TypeVar("I")  # noqa: E741  item
P = TypeVar("P", bound=Prepared)
R = TypeVar("R")  # result of infer and refine
O = TypeVar("O")  # noqa: E741  what finish returns


@dataclass(frozen=True)
class Stages(Generic[I, P, R, O]):
    """What happens to an item.

    Args:
        prepare: on any thread; reads and prepares an item.
        infer: on the calling thread; results of a batch, in order.
        refine: on a thread of its own, or None; takes and returns the results of a batch.
        finish: on any thread: item, prepared item, result and milliseconds; encodes or writes, and returns what the
            outcome holds.
        measure: bytes that ``prepare`` needs at most, known before; a larger value only delays an item.
    """

    prepare: Callable[[I], P]
    infer: Callable[[Sequence[P]], Sequence[R]]
    finish: Callable[[I, P, R, float], O]
    refine: Callable[[Sequence[P], Sequence[R]], Sequence[R]] | None = None
    measure: Callable[[I], int] = lambda item: 0


@dataclass(frozen=True)
class Outcome(Generic[I, O]):
    """What became of an item: the output of ``finish``, or the error that prevented it."""

    item: I
    output: O | None
    error: Exception | None = None


def run(
    items: Iterable[I], stages: Stages[I, P, R, O], batching: Batching | None = None, times: StageTimes | None = None
) -> Generator[Outcome[I, O], None, None]:
    """Move items through the stages.

    Closing the generator (or Ctrl-C) drops what has not been inferred; what is being finished is finished, and a reader
    that hangs is left behind. Who may leave it early closes it, ``with contextlib.closing(run(...)) as outcomes``: until
    then its threads go on.

    Args:
        items: any number; they are taken a few ahead.
        stages: what happens to them.
        batching: sizes of batches, threads and memory; by default ``Batching()``.
        times: collects how long every stage was busy.

    Yields:
        One outcome per item, in order.
    """
    engine = _Run(stages, batching or Batching(), times or StageTimes())
    return engine.outcomes(items)


@dataclass
class _Entry(Generic[I, P, R, O]):
    """One item on its way."""

    number: int
    item: I
    size: Future[int]
    ready: Future[None]  # prepared: ``value`` is there
    output: Future[O]
    value: P | None = None  # until the item is finished
    held: int = 0  # bytes of the budget
    milliseconds: float = 0.0


class _Run(Generic[I, P, R, O]):
    """Threads, queues and counters of one call of ``run``."""

    def __init__(self, stages: Stages[I, P, R, O], batching: Batching, times: StageTimes) -> None:
        self.stages, self.batching, self.times = stages, batching, times
        self.budget = ByteBudget(batching.buffer_bytes)
        self.readers = ReaderThreads(batching.workers, "prepare")
        self.refiner = ThreadPoolExecutor(1, thread_name_prefix="refine")
        self.writers = ThreadPoolExecutor(batching.workers, thread_name_prefix="finish")
        self.behind: deque[list[_Entry[I, P, R, O]]] = deque()
        self.fitting: dict[Hashable, int] = {}  # batch sizes that fit into memory, where the full one did not
        times.threads.update({PREPARE: batching.workers, INFER: 1, REFINE: 1, FINISH: batching.workers})

    def outcomes(self, items: Iterable[I]) -> Generator[Outcome[I, O], None, None]:
        """See ``run``."""
        check_fork()
        waiting: deque[_Entry[I, P, R, O]] = deque()  # all items that were not yielded, in order
        try:
            with self.times.running():
                for batch in self._batches(items, waiting):
                    self._infer(batch)
                    yield from self._done(waiting)
                yield from self._done(waiting, wait=True)
        finally:
            self.budget.close()
            self.readers.stop()
            self.refiner.shutdown(wait=True, cancel_futures=True)
            self.writers.shutdown(wait=True)

    def _batches(self, items: Iterable[I], waiting: deque[_Entry[I, P, R, O]]) -> Iterator[list[_Entry[I, P, R, O]]]:
        """Batches in the order in which they fill up; an item that cannot be prepared leaves with its error."""
        plan: BatchPlan[_Entry[I, P, R, O]] = BatchPlan(self.batching)
        for entry in self._ahead(items):
            waiting.append(entry)
            yield from plan.make_room(entry.number, entry.size.result())
            error = entry.ready.exception()
            if error is not None:
                entry.output.set_exception(error)
            else:
                yield from plan.add(entry, entry.number, _value(entry).bucket, entry.held)
        yield from plan.rest()

    def _ahead(self, items: Iterable[I]) -> Iterator[_Entry[I, P, R, O]]:
        """Entries in order, their preparation begun a window ahead."""
        started: deque[_Entry[I, P, R, O]] = deque()
        ahead = max(self.batching.window, self.batching.workers)
        for number, item in enumerate(items):
            entry: _Entry[I, P, R, O] = _Entry(number, item, Future(), Future(), Future())
            self.readers.submit(self._prepare, entry)
            started.append(entry)
            if len(started) > ahead:
                yield started.popleft()
        yield from started

    def _prepare(self, entry: _Entry[I, P, R, O]) -> None:
        try:
            size = self.stages.measure(entry.item)
        except Exception:
            size = 0  # prepare says what is wrong with the item
        entry.size.set_result(size)
        if not self.budget.admit(entry.number, size):
            return
        entry.held = size
        start = time.perf_counter()
        try:
            entry.value = self.stages.prepare(entry.item)
        except Exception as error:
            self.times.add(PREPARE, start)
            self._release(entry)
            entry.ready.set_exception(error)
        else:
            entry.milliseconds += self.times.add(PREPARE, start)
            self._hold(entry, entry.value.nbytes)
            entry.ready.set_result(None)

    def _hold(self, entry: _Entry[I, P, R, O], nbytes: int) -> None:
        self.budget.change(nbytes - entry.held)
        entry.held = nbytes

    def _infer(self, batch: list[_Entry[I, P, R, O]]) -> None:
        while len(self.behind) >= _BATCHES_BEHIND:
            for entry in self.behind.popleft():
                entry.output.exception()  # waits
        self.behind.append(batch)
        size = self.fitting.get(_value(batch[0]).bucket, len(batch))
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            self.refiner.submit(self._refine, part, self._attempt(INFER, part, self.stages.infer))

    def _refine(self, batch: list[_Entry[I, P, R, O]], results: list[R | Exception]) -> None:
        refine, good = self.stages.refine, [i for i, result in enumerate(results) if not isinstance(result, Exception)]
        if refine is not None and good:
            rough: list[Any] = [results[i] for i in good]
            after = self._attempt(REFINE, [batch[i] for i in good], refine, rough)
            for i, result in zip(good, after, strict=True):
                results[i] = result
        for entry, result in zip(batch, results, strict=True):
            self.writers.submit(self._finish, entry, result)

    def _finish(self, entry: _Entry[I, P, R, O], result: R | Exception) -> None:
        start = time.perf_counter()
        try:
            if isinstance(result, Exception):
                raise result
            output = self.stages.finish(entry.item, _value(entry), result, entry.milliseconds)
            self.times.add(FINISH, start)
        except Exception as error:
            self._release(entry)
            entry.output.set_exception(error)
        else:
            self._release(entry)
            entry.output.set_result(output)

    def _release(self, entry: _Entry[I, P, R, O]) -> None:
        entry.value = None
        self._hold(entry, 0)

    def _attempt(
        self, stage: str, batch: list[_Entry[I, P, R, O]], work: Callable[..., Sequence[R]], *given: Sequence[Any]
    ) -> list[R | Exception]:
        """Results of a batch, its time shared by its items; a bucket's next batches have a size that fits."""
        values = [_value(entry) for entry in batch]

        def compute(part: slice) -> Sequence[R]:
            return work(values[part], *(sequence[part] for sequence in given))

        def shrink(size: int) -> None:
            self.fitting[bucket] = size

        bucket, start = values[0].bucket, time.perf_counter()
        results = isolate(compute, len(batch), stage, shrink)
        milliseconds = self.times.add(stage, start) / len(batch)
        for entry in batch:
            entry.milliseconds += milliseconds
        return results

    def _done(self, waiting: deque[_Entry[I, P, R, O]], wait: bool = False) -> Iterator[Outcome[I, O]]:
        while waiting and (wait or waiting[0].output.done()):
            entry = waiting.popleft()
            error = entry.output.exception()
            if error is None:
                yield Outcome(entry.item, entry.output.result())
            elif isinstance(error, Exception):
                yield Outcome(entry.item, None, error)
            else:
                raise error


def _value(entry: _Entry[Any, P, Any, Any]) -> P:
    assert entry.value is not None  # from being prepared to being finished
    return entry.value
