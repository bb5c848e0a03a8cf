"""The fused multiply-add in float64, from ordinary operations: equal on every machine and device."""

from __future__ import annotations

import torch
from torch import Tensor

_SPLITTER = 2.0**27 + 1  # cuts 53 bits into two parts of 26, whose products are exact (Veltkamp)


def fused_multiply_add(x: Tensor, factor: float, addend: Tensor) -> Tensor:
    """x * factor + addend with one rounding, as the instruction of that name; Python has it from 3.13 on, torch not at all.

    The product and the sums are split into value and error without loss; the two errors are added with rounding to odd,
    so that the last sum rounds as if it were the only one (Boldo and Melquiond, IEEE Transactions on Computers 2008).

    Args:
        x: any shape, float64, magnitudes far from overflow and underflow.
        factor: likewise.
        addend: float64, of that shape.

    Returns:
        float64, of that shape.

    Example:
        >>> x, addend = torch.tensor([0.1], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
        >>> fused_multiply_add(x, 10.0, addend).item() == 2**-54, (x * 10.0 + addend).item()
        (True, 0.0)
    """
    product, product_error = _two_product(x, torch.full_like(x, factor))
    low, low_error = _two_sum(addend, product_error)
    high, high_error = _two_sum(product, low)
    return high + _sum_to_odd(low_error, high_error)


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum and its error, for any magnitudes (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded product and its error (Dekker)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, error


def _split(a: Tensor) -> tuple[Tensor, Tensor]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def _sum_to_odd(a: Tensor, b: Tensor) -> Tensor:
    """a + b, of the two neighbors of an inexact sum the one whose last bit is set."""
    total, error = _two_sum(a, b)
    bits = total.contiguous().view(torch.int64)
    # The bits of a float grow with its magnitude, so one step away from zero is + 1.
    away = torch.where((error > 0) == (total > 0), 1, -1)
    moved = torch.where((error != 0) & (bits % 2 == 0), bits + away, bits)
    return moved.view(torch.float64)
