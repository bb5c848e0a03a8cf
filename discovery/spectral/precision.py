"""Full precision regardless of global settings: TensorFloat-32 would change graphs and invalidate proofs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """No autograd, no autocast, and float32 products in float32 (IEEE) on every device; settings are restored on exit.

    Usable as a decorator. The settings for products are global to the process: the first thread to enter saves and sets
    them, the last to leave restores them.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_ieee_products())
        yield


_lock = Lock()
_inside = 0
_restore: Callable[[], object] = bool  # nothing to restore yet


@contextmanager
def _ieee_products() -> Iterator[None]:
    global _inside, _restore
    with _lock:
        if not _inside:
            _restore = _set_ieee()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _restore()


def _set_ieee() -> Callable[[], object]:
    """Set IEEE products, and return a function that restores the previous settings."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch below 2.9
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        return partial(torch.set_float32_matmul_precision, precision)
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"

    def restore() -> None:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value

    return restore
