"""Arithmetic that no global switch may make sloppier: a graph or a proof computed in TensorFloat-32 is another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """No autograd, no autocast, and float32 products in float32 (IEEE) on every device; the caller's settings come back.

    Usable as a decorator. The switches are the process's own: another thread that multiplies meanwhile is as precise.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_ieee_products())
        yield


@contextmanager
def _ieee_products() -> Iterator[None]:
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        switches = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
        before = [switch.fp32_precision for switch in switches]
        try:
            for switch in switches:
                switch.fp32_precision = "ieee"
            yield
        finally:
            for switch, value in zip(switches, before, strict=True):
                switch.fp32_precision = value
    else:  # torch below 2.9
        precision = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("highest")
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
