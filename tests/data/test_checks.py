"""Checks of arguments name the argument, what came and what is accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigenseg.data.checks import check_choice, check_integer


@pytest.mark.parametrize("value", [None, "reference"])
def test_a_choice_passes(value: str | None) -> None:
    check_choice("compat", value, (None, "reference"))


@pytest.mark.parametrize(
    ("value", "choices", "message"),
    [
        ("crop", ("keep", "drop"), "^padding must be 'keep' or 'drop', got 'crop'$"),
        (None, ("a", "b", "c"), "^padding must be 'a', 'b' or 'c', got None$"),
        (True, (None, "reference"), "^padding must be null or 'reference', got True$"),
        (np.array(["keep"]), ("keep", "drop"), r"got array\(\['keep'\]"),
    ],
)
def test_another_value_is_rejected_with_all_choices(value: Any, choices: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_choice("padding", value, choices)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None])
def test_what_is_not_an_integer_or_too_small_is_rejected(value: Any) -> None:
    check_integer("k", 1, at_least=1)
    with pytest.raises(ValueError, match=f"^k must be an integer of at least 1, got {value!r}$"):
        check_integer("k", value, at_least=1)
