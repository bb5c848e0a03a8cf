"""Arithmetic that no global switch may make sloppier: a graph or a proof computed in TensorFloat-32 is another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """No autograd, no autocast, and float32 products in float32 (IEEE) on every device; the caller's settings come back.

    Usable as a decorator. The switches for products belong to the process: the first to enter saves and sets them, the last
    to leave, in whichever thread, puts them back.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_ieee_products())
        yield


_lock = Lock()
_inside = 0
_restore: Callable[[], object] = bool  # nothing to put back yet


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
    """Switch, and return what switches back."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch below 2.9
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        return partial(torch.set_float32_matmul_precision, precision)
    switches = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"

    def restore() -> None:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value

    return restore
