"""Exact products with a 0/1 matrix: float64 accuracy from the narrow types that hardware multiplies fast.

A vector becomes fixed-point numbers of 48 bits, split into six digits of base 256. A sum of N digits is an integer below
128 N, which int32 and float32 accumulators hold exactly in any order of additions: the result does not depend on threads,
batch or blocking. One multiplication with six times the rows replaces one with a float64 copy of the matrix, which would
take eight times the memory of an int8 one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

DIGITS = 6
# One bit less than 47, so that adding the bias below never carries out of the sixth digit.
_FRACTION_BITS = 46
# 128 in every digit: maps digits of -128..127 to 0..255, and flipping their top bits subtracts it again.
_BIAS = 0x808080808080
# 128 N has to stay below 2^24, the limit of consecutive integers in float32.
MAX_TOKENS = 2**17


def exact_product(matrix: Tensor, vectors: Tensor, images: Sequence[int] | None = None) -> Tensor:
    """Rows B u in float64, exact for the 46 bits of u below the leading bit of its largest entry.

    u = 2^e (h_0 + 256 h_1 + ... + 256^5 h_5) with integers -128 <= h_i < 128; B u is assembled from the products B h_i.

    Args:
        matrix: (B, N, N) of 0 and 1; int8 or float32 on a CPU, bfloat16 or float32 on a CUDA device.
        vectors: (A, m, N) float64, finite, one vector per row.
        images: for each of the A blocks, the index of its matrix; None: all, in order.

    Returns:
        (A, m, N) float64.
    """
    digits, exponent = to_digits(vectors)
    products = _multiply(matrix, digits.flatten(2), images).view(digits.shape)
    total = products[..., -1].double()
    for i in reversed(range(DIGITS - 1)):
        total = torch.add(products[..., i], total, alpha=256)
    return total.mT.contiguous().div_(exponent)


def to_digits(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Balanced digits of base 256, the lowest first.

    Args:
        vectors: (A, m, N) float64, finite.

    Returns:
        (A, N, m, 6) int8 digits, and (A, m, 1) float64 powers of two by which the vectors were multiplied.
    """
    peak = vectors.abs().amax(dim=2, keepdim=True).clamp(min=1e-290)  # a zero vector may have any exponent
    exponent = torch.exp2(_FRACTION_BITS - torch.ceil(torch.log2(peak)))
    fixed = (vectors * exponent).round_().to(torch.int64).add_(_BIAS).bitwise_xor_(_BIAS)
    # A memory view reads the digits, two at a time: all platforms of torch are little-endian.
    pairs = fixed.mT.clone(memory_format=torch.contiguous_format).view(torch.int16)
    return pairs.view(*fixed.mT.shape, 4)[..., : DIGITS // 2].contiguous().view(torch.int8), exponent


@cache
def int8_is_exact() -> bool:
    """Whether this CPU multiplies int8 fast and exactly.

    Older CPUs add pairs of products in 16 bits, which saturates; a product with the largest digits reveals it.
    """
    try:
        if not torch.cpu._is_vnni_supported():
            return False
        ones = torch.ones(256, 256, dtype=torch.int8)
        digits = torch.tensor([-128, 127], dtype=torch.int8).repeat_interleave(24)[:, None].expand(48, 256).contiguous()
        return bool((torch._int_mm(ones, digits.T.contiguous()) == 256 * digits[:, 0].int()).all())
    except (AttributeError, RuntimeError):  # another version of torch
        return False


@cache
def bfloat16_is_exact() -> bool:
    """Whether this torch can return the float32 sums of a bfloat16 product on a CUDA device without rounding them."""
    return hasattr(torch.ops.aten.bmm, "dtype")


def _multiply(matrix: Tensor, digits: Tensor, images: Sequence[int] | None) -> Tensor:
    """The matrices times (A, N, r) int8 digits: int32 or float32 (A, N, r), all of them exact integers."""
    if matrix.is_cuda:
        chosen = matrix if images is None else matrix[list(images)]
        if matrix.dtype == torch.bfloat16:
            return torch.bmm(chosen, digits.to(matrix.dtype), out_dtype=torch.float32)
        return torch.bmm(chosen, digits.to(matrix.dtype))
    # On a CPU a batch is a loop anyway, and copying the matrices would cost more than multiplying them.
    order = range(len(matrix)) if images is None else images
    if matrix.dtype == torch.int8:
        products = digits.new_empty(digits.shape, dtype=torch.int32)
        for out, block, i in zip(products, digits, order, strict=True):
            torch._int_mm(matrix[i], block, out=out)
        return products
    columns = digits.to(matrix.dtype)
    return torch.stack([matrix[i] @ block for block, i in zip(columns, order, strict=True)])
