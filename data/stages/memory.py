"""Recognizing that a batch did not fit into memory, on the CPU and on a GPU."""

from __future__ import annotations

import gc
import sys

# torch's CPU allocator raises a plain RuntimeError.
_ALLOCATOR = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was exhausted.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("out of memory"))
        (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    # torch.OutOfMemoryError is a RuntimeError, too.
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _ALLOCATOR)


def free_memory() -> None:
    """Give back what a failed attempt left: cycles of Python, blocks that torch caches on the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")  # without torch nothing is cached, and importing it takes seconds
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
