"""Shared checks of constructor arguments; the messages name the argument, its value and the valid values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

# "reference" repeats the published code where it differs from the paper; None is the default, corrected behavior.
Compat = Literal["reference"] | None


def check_choice(name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Raise if a value is not one of the choices.

    Args:
        name: of the argument.
        value: of the argument; a yaml may hold anything.
        choices: the valid values; None is shown as ``null``.

    Raises:
        ValueError: naming all choices.

    Example:
        >>> check_choice("padding", "crop", ("keep", "drop"))
        Traceback (most recent call last):
        ValueError: padding must be 'keep' or 'drop', got 'crop'
    """
    if (value is None or isinstance(value, str)) and value in choices:
        return
    shown = ["null" if choice is None else repr(choice) for choice in choices]
    raise ValueError(f"{name} must be {', '.join(shown[:-1])} or {shown[-1]}, got {value!r}")


def check_compat(compat: Any) -> None:
    """Raise if this is not a value of ``Compat``.

    Raises:
        ValueError: naming the accepted values.
    """
    check_choice("compat", compat, (None, "reference"))


def check_integer(name: str, value: Any, at_least: int) -> None:
    """Raise if a value is not an integer, or too small.

    Args:
        name: of the argument.
        value: of the argument; True and False do not count as integers.
        at_least: the smallest valid value.

    Raises:
        ValueError: naming the bound.

    Example:
        >>> check_integer("max_masks", 0, 1)
        Traceback (most recent call last):
        ValueError: max_masks must be an integer of at least 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {value!r}")
