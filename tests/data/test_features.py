"""A feature grid names inconsistent shapes, and knows which of its tokens hold padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from eigenseg.data import FeatureGrid, Geometry

FULL = Geometry((16, 24), (16, 24), (16, 24), 8)
WIDE_PADDING = Geometry((16, 20), (16, 20), (16, 24), 8)
DEEP_PADDING = Geometry((9, 24), (9, 24), (16, 24), 8)


def a_grid(**changes: Any) -> FeatureGrid:
    arguments = {"tokens": torch.zeros(2, 6, 4), "grid": (2, 3), "kind": "key", "geometries": (FULL, FULL), **changes}
    return FeatureGrid(**arguments)


def test_padded_tokens_are_row_major_and_each_image_has_its_own() -> None:
    features = a_grid(tokens=torch.zeros(3, 6, 4), geometries=(FULL, WIDE_PADDING, DEEP_PADDING))
    o, x = False, True
    assert features.padded_tokens().tolist() == [[o, o, o, o, o, o], [o, o, x, o, o, x], [o, o, o, x, x, x]]


def test_its_length_is_the_number_of_images() -> None:
    assert len(a_grid()) == 2
    assert len(a_grid(tokens=torch.zeros(1, 6, 4), geometries=(FULL,))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": torch.zeros(6, 4)}, r"tokens must be \(B, N, D\) floating, got \(6, 4\)"),
        ({"tokens": torch.zeros(2, 6, 4, dtype=torch.int64)}, r"tokens must be .* torch\.int64"),
        ({"grid": (2, 4)}, "grid 2x4 holds 8 tokens, got 6"),
        ({"grid": (3, 2)}, r"a geometry has grid \(2, 3\), the tokens have \(3, 2\)"),
        ({"geometries": (FULL,)}, "2 images need 2 geometries, got 1"),
        ({"geometries": (FULL, Geometry((8, 8), (8, 8), (8, 8), 8))}, r"a geometry has grid \(1, 1\)"),
        ({"cls": torch.zeros(2, 5)}, r"cls must be \(2, 4\), got \(2, 5\)"),
        ({"cls": torch.zeros(1, 4)}, r"cls must be \(2, 4\), got \(1, 4\)"),
        ({"registers": torch.zeros(2, 4)}, r"registers must be \(2, R, 4\), got \(2, 4\)"),
        ({"registers": torch.zeros(2, 7, 6)}, r"registers must be \(2, R, 4\), got \(2, 7, 6\)"),
        ({"registers": torch.zeros(1, 7, 4)}, r"registers must be \(2, R, 4\), got \(1, 7, 4\)"),
        ({"registers": torch.zeros(2, 7, 4, 1)}, r"registers must be \(2, R, 4\), got \(2, 7, 4, 1\)"),
        ({"attention": torch.zeros(2, 3, 6, 1)}, r"attention must be \(2, heads, 6\), got \(2, 3, 6, 1\)"),
        ({"attention": torch.zeros(2, 6)}, r"attention must be \(2, heads, 6\), got \(2, 6\)"),
        ({"attention": torch.zeros(2, 3, 7)}, r"attention must be \(2, heads, 6\), got \(2, 3, 7\)"),
        ({"attention": torch.zeros(3, 3, 6)}, r"attention must be \(2, heads, 6\), got \(3, 3, 6\)"),
    ],
)
def test_wrong_shapes_are_named_with_the_expected_ones(changes: dict[str, Any], message: str) -> None:
    fitting = a_grid(cls=torch.zeros(2, 4), registers=torch.zeros(2, 7, 4), attention=torch.zeros(2, 3, 6))
    with pytest.raises(ValueError, match=message):
        replace(fitting, **changes)


def test_a_slice_holds_all_fields_of_its_images() -> None:
    size = (8, 12)
    geometries = tuple(Geometry((8 + i, 12), size, size, 4) for i in range(3))
    parts = {"cls": torch.rand(3, 5), "registers": torch.rand(3, 2, 5), "attention": torch.rand(3, 4, 6)}
    features = FeatureGrid(torch.rand(3, 6, 5), (2, 3), "key", geometries, **parts)
    last = features[1:]
    assert last.geometries == geometries[1:]
    assert torch.equal(last.tokens, features.tokens[1:])
    for name, value in parts.items():
        assert torch.equal(getattr(last, name), value[1:])
    assert FeatureGrid(torch.rand(3, 6, 5), (2, 3), "key", geometries)[:1].cls is None
