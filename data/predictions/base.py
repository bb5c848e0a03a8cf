"""What a reader of predictions is, and what becomes of items that nobody predicted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

from eigenseg.data.datasets.base import Dataset

# What an absent prediction means: an error that names it, or an item in which nothing was found.
Missing = Literal["error", "empty"]


class Predictions(Protocol):
    """Predictions of one kind, found by an item's name. Instances are pickled into worker processes."""

    def names(self) -> Iterable[str]:
        """Names of what was predicted, with or without suffix; for messages and for the check that some are known."""
        ...

    def lacks(self, item: str) -> bool:
        """Whether nothing was recorded for an item, not even that it holds nothing."""
        ...

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Names of predictions that belong to none of these items."""
        ...

    def read(self, item: str, annotation: Any) -> Any:
        """The prediction of an item, as its kind of annotation is scored against.

        Args:
            item: name in the dataset.
            annotation: of this item; says size, frames and number.

        Raises:
            FileNotFoundError: if there is none and that is not allowed.
            ValueError: if it cannot be read.
        """
        ...


def stem(name: str) -> str:
    """A name without its last suffix: ``a/b.jpg`` is ``a/b``."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail and head and not head.endswith("/") else name


def without(names: Iterable[str], items: Iterable[str]) -> list[str]:
    """Those of the names that are no item's, with or without suffix."""
    known = {key for item in items for key in (item, stem(item))}
    return [name for name in names if name not in known and stem(name) not in known]


def check_overlap(predictions: Predictions, dataset: Dataset, indices: Iterable[int]) -> int:
    """Compare names before hours are spent: some prediction must belong to an item, unless there is none at all.

    Returns:
        How many of the items have no prediction.

    Raises:
        ValueError: if there are predictions, and none is of an item.
    """
    items = [dataset.items[i] for i in indices]
    lacking = [item for item in items if predictions.lacks(item)]
    if len(lacking) == len(items):
        example = next(iter(predictions.names()), None)
        if example is not None and items:
            raise ValueError(
                f"no prediction belongs to {dataset.title}: the predictions are called {example!r} and the like, "
                f"the items {items[0]!r}; names must agree, with or without suffix"
            )
    return len(lacking)
