"""Products with a 0/1 matrix are exact: equal to integer arithmetic for any order of the sums and any storage."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from eigenseg.discovery.spectral.edges import storage_dtype
from eigenseg.discovery.spectral.exact import MAX_TOKENS, exact_product, int8_is_exact, to_digits

CPU = torch.device("cpu")
STORAGES = [torch.float32, pytest.param(torch.int8, marks=pytest.mark.skipif(not int8_is_exact(), reason="no VNNI here"))]


def graph(batch: int, tokens: int, seed: int) -> Tensor:
    return (torch.rand(batch, tokens, tokens, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def dyadic(batch: int, rows: int, tokens: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random multiples of 2^-40 in (-1/2, 1/2): as int64 numerators and as float64 values."""
    numerators = torch.randint(-(2**39) + 1, 2**39, (batch, rows, tokens), generator=torch.Generator().manual_seed(seed))
    return numerators, numerators.double() / 2**40


@pytest.mark.parametrize("dtype", STORAGES)
@pytest.mark.parametrize("tokens", [1, 2, 20, 900, 2000])
def test_products_equal_integer_arithmetic_to_the_bit(tokens: int, dtype: torch.dtype) -> None:
    matrix = graph(2, tokens, tokens)
    numerators, vectors = dyadic(2, 3, tokens, tokens + 1)
    expected = (numerators @ matrix.long().mT).double() / 2**40  # sums of 2000 numbers of 40 bits fit into 53
    assert torch.equal(exact_product(matrix.to(dtype), vectors), expected)


@pytest.mark.parametrize("dtype", STORAGES)
@pytest.mark.parametrize("digit", [-128, 127])
def test_the_largest_sums_of_the_largest_digits_do_not_saturate(digit: int, dtype: torch.dtype) -> None:
    # -(2^46) and the largest number below 2^46 whose lower digits are all 127
    number = -(2**46) if digit < 0 else int.from_bytes([0x3F] + [0x7F] * 5, "big")
    vectors = torch.full((1, 8, 3600), float(number), dtype=torch.float64)
    product = exact_product(torch.ones(1, 3600, 3600, dtype=dtype), vectors)
    assert product.unique().tolist() == [float(3600 * number)]


@given(st.integers(-(2**46), 2**46))
def test_digits_represent_the_number_in_base_256(number: int) -> None:
    digits, exponent = to_digits(torch.tensor([[[float(number), float(2**46)]]], dtype=torch.float64))
    assert exponent.item() == 1
    assert sum(int(digit) * 256**i for i, digit in enumerate(digits[0, 0, 0])) == number


def test_sums_of_digits_are_exact_in_float32() -> None:
    assert 128 * MAX_TOKENS <= 2**24
    with pytest.raises(ValueError, match=f"graphs hold at most {MAX_TOKENS} tokens, got {MAX_TOKENS + 1}"):
        storage_dtype("auto", CPU, MAX_TOKENS + 1)


def test_rows_of_very_different_size_keep_their_own_precision() -> None:
    matrix = graph(1, 60, 3)
    vectors = torch.randn(1, 4, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors = vectors * torch.tensor([1e-200, 1.0, 1e-7, 1e200], dtype=torch.float64)[:, None]
    error = (exact_product(matrix, vectors) - vectors @ matrix.double().mT).abs().amax(dim=2)
    assert (error <= 60 * 2.0**-46 * vectors.abs().amax(dim=2)).all()


def test_a_zero_row_gives_zero() -> None:
    zeros = torch.zeros(1, 2, 7, dtype=torch.float64)
    assert torch.equal(exact_product(graph(1, 7, 0), zeros), zeros)


@pytest.mark.parametrize("dtype", STORAGES)
def test_products_are_bitwise_equal_for_any_order_batch_selection_threads_and_storage(dtype: torch.dtype) -> None:
    matrix, vectors = graph(3, 500, 5), torch.randn(3, 8, 500, generator=torch.Generator().manual_seed(6)).double()
    reference, matrix = exact_product(matrix, vectors), matrix.to(dtype)
    assert torch.equal(exact_product(matrix, vectors), reference)
    for i in range(3):
        assert torch.equal(exact_product(matrix[i : i + 1], vectors[i : i + 1]), reference[i : i + 1])
    assert torch.equal(exact_product(matrix, vectors[[2, 0]], [2, 0]), reference[[2, 0]])
    order = torch.randperm(500, generator=torch.Generator().manual_seed(7))
    assert torch.equal(exact_product(matrix[:, order][:, :, order], vectors[:, :, order]), reference[:, :, order])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(exact_product(matrix, vectors), reference)
    finally:
        torch.set_num_threads(threads)


def test_bfloat16_holds_every_digit_and_float32_every_sum_as_on_a_gpu() -> None:
    """Emulates the CUDA path: bfloat16 factors, float32 sums."""
    matrix = graph(1, 900, 8)
    numerators, vectors = dyadic(1, 8, 900, 9)
    digits, exponent = to_digits(vectors)
    rounded = digits.to(torch.bfloat16)
    assert torch.equal(rounded.to(torch.int8), digits)
    products = (matrix.to(torch.bfloat16).float() @ rounded.float().flatten(2)).view(1, 900, 8, 6).double()
    weights = 256.0 ** torch.arange(6, dtype=torch.float64)
    total = torch.einsum("bnms,s->bmn", products, weights) / exponent
    assert torch.equal(total, (numerators @ matrix.long().mT).double() / 2**40)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("int4", "storage must be 'auto', 'int8', 'float32' or 'bfloat16', got 'int4'"),
        ("bfloat16", "storage='bfloat16' has no exact products on this cpu device; use storage='auto'"),
    ],
)
def test_a_storage_without_exact_products_is_rejected(storage: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        storage_dtype(storage, CPU, 900)


def test_a_cpu_without_exact_int8_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenseg.discovery.spectral.edges.int8_is_exact", lambda: False)
    assert storage_dtype("auto", CPU, 900) is torch.float32
    with pytest.raises(ValueError, match="storage='int8' has no exact products"):
        storage_dtype("int8", CPU, 900)
