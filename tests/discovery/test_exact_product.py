"""Products with a 0/1 matrix are exact: equal to integer arithmetic, whatever the order of the sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eigenseg.discovery.spectral.exact import exact_product, slice_bits


def graph(batch: int, tokens: int, seed: int) -> Tensor:
    return (torch.rand(batch, tokens, tokens, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def dyadic(batch: int, tokens: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random multiples of 2^-40 in (-1/2, 1/2): as int64 numerators and as float64 values."""
    numerators = torch.randint(-(2**39) + 1, 2**39, (batch, tokens, columns), generator=torch.Generator().manual_seed(seed))
    return numerators, numerators.double() / 2**40


@pytest.mark.parametrize("tokens", [2, 20, 900, 2000])
def test_products_equal_integer_arithmetic_to_the_bit(tokens: int) -> None:
    binary = graph(2, tokens, tokens)
    numerators, vectors = dyadic(2, tokens, 3, tokens + 1)
    expected = (binary.long() @ numerators).double() / 2**40  # sums of 2000 numbers of 40 bits fit into 53
    assert torch.equal(exact_product(binary, vectors), expected)


def test_every_partial_sum_of_a_slice_fits_into_a_float32() -> None:
    for tokens in (2, 49, 900, 3600, 4096, 4097, 8000):
        assert tokens * 2 ** (slice_bits(tokens) - 1) <= 2**24
    assert [slice_bits(tokens) for tokens in (900, 3600, 8000)] == [14, 12, 11]


def test_columns_of_very_different_size_keep_their_own_precision() -> None:
    binary = graph(1, 60, 3)
    vectors = torch.randn(1, 60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors = vectors * torch.tensor([1e-200, 1.0, 1e-7, 1e200], dtype=torch.float64)
    error = (exact_product(binary, vectors) - binary.double() @ vectors).abs().amax(dim=1)
    assert (error <= 1e-12 * vectors.abs().amax(dim=1)).all()


def test_a_zero_column_gives_zero() -> None:
    assert torch.equal(
        exact_product(graph(1, 7, 0), torch.zeros(1, 7, 2, dtype=torch.float64)), torch.zeros(1, 7, 2).double()
    )


def test_order_batch_selection_and_threads_change_no_bit() -> None:
    binary, vectors = graph(3, 500, 5), torch.randn(3, 500, 8, generator=torch.Generator().manual_seed(6)).double()
    together = exact_product(binary, vectors)
    for i in range(3):
        assert torch.equal(together[i : i + 1], exact_product(binary[i : i + 1], vectors[i : i + 1]))
    chosen = torch.tensor([2, 0])
    assert torch.equal(exact_product(binary, vectors[chosen], chosen), together[chosen])
    order = torch.randperm(500, generator=torch.Generator().manual_seed(7))
    assert torch.equal(exact_product(binary[:, order][:, :, order], vectors[:, order]), together[:, order])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(exact_product(binary, vectors), together)
    finally:
        torch.set_num_threads(threads)
