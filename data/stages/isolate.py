"""A batch that fails costs only the item that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from eigenseg.data.stages.memory import free_memory, is_out_of_memory

R = TypeVar("R")
logger = logging.getLogger(__name__)


def isolate(
    work: Callable[[slice], Sequence[R]], count: int, name: str, on_shrink: Callable[[int], None] = lambda size: None
) -> list[R | Exception]:
    """Results of a batch: all at once; by halves if the memory does not suffice; one by one if it fails otherwise.

    Args:
        work: computes the results of a part of the batch.
        count: items in the batch.
        name: of the work, for messages.
        on_shrink: called with the number of items that is tried after running out of memory.

    Returns:
        One result per item, or the error that it raises alone.

    Example:
        >>> isolate(lambda part: [1 / x for x in (2, 0, 4)[part]], 3, "divide")
        [0.5, ZeroDivisionError('division by zero'), 0.25]
    """

    return _attempt(work, slice(0, count), name, on_shrink)


def _attempt(
    work: Callable[[slice], Sequence[R]], part: slice, name: str, on_shrink: Callable[[int], None]
) -> list[R | Exception]:
    # Not a function within a function: calling itself it would be a cycle, and keep the batch until the next collection.
    number = part.stop - part.start
    try:
        results = list(work(part))
        if len(results) != number:
            raise RuntimeError(f"{name} returned {len(results)} results for {number} items")
        return list(results)
    except Exception as error:
        if number == 1:
            _log(error, name)
            return [error]
        exhausted = is_out_of_memory(error)
    # Outside of the handler: the error's traceback keeps the tensors of the failed attempt alive.
    size = number // 2 if exhausted else 1
    if exhausted:
        logger.warning("out of memory: %s with %d items in a batch, going on with %d", name, number, size)
        free_memory()
        on_shrink(size)
    starts = range(part.start, part.stop, size)
    parts = [slice(start, min(start + size, part.stop)) for start in starts]
    return [result for smaller in parts for result in _attempt(work, smaller, name, on_shrink)]


def _log(error: Exception, name: str) -> None:
    """A bug leaves its traceback; errors that are meant for users are told by whoever gets the outcome."""
    if not isinstance(error, (ValueError, OSError)) and not is_out_of_memory(error):
        logger.error("%s failed", name, exc_info=error)
