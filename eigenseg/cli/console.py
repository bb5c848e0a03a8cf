"""What commands show while they run and when they are done: progress bars, tables, numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


def is_watched() -> bool:
    """Whether standard error is a terminal."""
    return Console(stderr=True).is_terminal


@contextlib.contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error if that is a terminal; yields a function that advances it by a number; None: no end known."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = total == 0 or not is_watched()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


def print_table(table: Table, *lines: str) -> None:
    """A table and lines of text below it, on standard output."""
    # A pipe has no width; without this rich would cut lines at 80. Names of files may look like markup.
    console = Console(soft_wrap=True, markup=False)
    console.print(table)
    for line in lines:
        console.print(line)


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "image"), plural(3, "image")
        ('1 image', '3 images')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def format_number(value: float | None) -> str:
    """Counts as they are, other numbers with four decimals, a dash where there is none.

    Example:
        >>> format_number(7), format_number(0.61539), format_number(None)
        ('7', '0.6154', '-')
    """
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
