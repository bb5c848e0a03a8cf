"""Checks of arguments that many constructors share; the messages name the argument, what came and what is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def check_choice(name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Reject a value that is none of the choices.

    Args:
        name: of the argument.
        value: what came; a yaml may hold anything.
        choices: the accepted values; None is shown as ``null``.

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


def check_integer(name: str, value: Any, at_least: int) -> None:
    """Reject what is not an integer, or too small.

    Args:
        name: of the argument.
        value: what came; True and False are no integers here.
        at_least: the smallest accepted value.

    Raises:
        ValueError: naming the bound.

    Example:
        >>> check_integer("max_masks", 0, 1)
        Traceback (most recent call last):
        ValueError: max_masks must be an integer of at least 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {value!r}")
