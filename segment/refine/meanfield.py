"""Mean field of a fully connected CRF with Potts weights (Kraehenbuehl and Koltun, NIPS 2011)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Kernel = Callable[[Tensor], Tensor]  # a symmetric matrix times a table (P, C)


class Term(NamedTuple):
    """One pairwise term: its weight and its normalized kernel."""

    weight: float
    kernel: Kernel


def mean_field(unary: Tensor, terms: Sequence[Term], iterations: int) -> Tensor:
    """Q <- softmax(-U + sum_m w_m K_m Q), starting from softmax(-U); all pixels at once.

    The published update subtracts w K (1 - q); the difference is common to all labels of a pixel, so softmax ignores it.

    Args:
        unary: (P, K, L) floating, energies of L labels in K problems on the same pixels.
        terms: kernels over the P pixels.
        iterations: 0 returns softmax(-U).

    Returns:
        (P, K, L) marginals.
    """
    pixels, _, labels = unary.shape
    # The marginals of a pixel sum to 1, so the last label's message follows from the others': one filtering less per step.
    ones = unary.new_ones(pixels, 1)
    totals = [weight * kernel(ones) for weight, kernel in terms]
    marginals = torch.softmax(-unary, dim=-1)
    for _ in range(iterations):
        first = marginals[..., :-1].reshape(pixels, -1).contiguous()
        logits = -unary
        for (weight, kernel), total in zip(terms, totals, strict=True):
            message = weight * kernel(first).view(pixels, -1, labels - 1)
            logits[..., :-1] += message
            logits[..., -1] += total - message.sum(dim=-1)
        marginals = torch.softmax(logits, dim=-1)
    return marginals


def normalized(product: Kernel, like: Tensor) -> Kernel:
    """D^-1/2 K D^-1/2 from a product with K, whose row sums are D.

    Args:
        product: K times a table.
        like: any table (P, C), for size, type and device.
    """
    scale = product(like.new_ones(len(like), 1)).clamp(min=torch.finfo(like.dtype).tiny).rsqrt()
    return lambda values: scale * product(scale * values)
