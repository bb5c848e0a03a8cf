"""Products with a 0/1 matrix that are exact: float64 accuracy from float32 multiplications.

A vector is cut into slices of small integers. A sum of N integers below 2^(b-1) stays below 2^24 if N 2^(b-1) <= 2^24, so
float32 holds every partial sum exactly, in whatever order a machine adds: the result does not depend on threads, batch or
blocking, and one multiplication with a few times the columns does the work of a float64 copy of the matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MANTISSA = 24  # bits of a float32 significand
_WANTED_BITS = 44  # of a vector, relative to its largest entry: residuals of 1e-12, below the tightest tolerance


def slice_bits(tokens: int) -> int:
    """Bits a slice may have for an exact product with N tokens: 14 at N = 900, 12 at 3600, 11 at 8000."""
    return _MANTISSA - math.ceil(math.log2(tokens))


def exact_product(binary: Tensor, vectors: Tensor, images: Tensor | None = None) -> Tensor:
    """B @ u in float64, exact for the leading 44 bits of u.

    u = (e / 2^b) (h_1 + 2^-b (h_2 + ...)) with integers |h_i| <= 2^(b-1), one float32 product for all slices.

    Args:
        binary: (B, N, N) float32 of 0 and 1.
        vectors: (A, N, m) float64, finite.
        images: (A,) int64, which of the B matrices each block of vectors belongs to; None: all, in order.

    Returns:
        (A, N, m) float64.
    """
    bits = slice_bits(binary.shape[-1])
    scale = 2.0**bits
    peak = vectors.abs().amax(dim=1, keepdim=True)
    # The power of two that brings all entries into [-1/2, 1/2]; a zero column may have any.
    exponent = torch.exp2(torch.ceil(torch.log2(peak.clamp(min=torch.finfo(torch.float64).tiny))) + 1)
    rest, slices = vectors / exponent, []
    for _ in range(math.ceil(_WANTED_BITS / bits)):
        rest = rest * scale
        slices.append(rest.round())
        rest = rest - slices[-1]
    products = _multiply(binary, torch.cat(slices, dim=2).float(), images).double().chunk(len(slices), dim=2)
    total = products[-1]
    for product in reversed(products[:-1]):
        total = product + total / scale
    return total * (exponent / scale)


def _multiply(binary: Tensor, columns: Tensor, images: Tensor | None) -> Tensor:
    if images is None:
        return binary @ columns
    if binary.is_cuda:
        return binary[images] @ columns
    # On a CPU a batch is a loop anyway, and gathering the matrices would cost more than multiplying them.
    return torch.stack([binary[i] @ columns[j] for j, i in enumerate(images.tolist())])
