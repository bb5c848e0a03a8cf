"""Hints at misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names as the beginning of a hint; empty if none is near.

    Example:
        >>> did_you_mean("tokenkut", ["lost", "tokencut"]), did_you_mean("x", ["lost"])
        ('did you mean tokencut? ', '')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""
