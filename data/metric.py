"""Metrics that accumulate over items; the result does not depend on the order of items or the number of processes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, runtime_checkable

from eigenseg.data.datasets.base import Kind

Record = TypeVar("Record")
# The values of one item by name; None where the item has no such value.
ItemScores = dict[str, float | None]


class Metric(Protocol):
    """Interface of all metrics; a new metric is a class with these members and a yaml.

    ``kind`` is the kind of annotation that it scores.
    """

    kind: ClassVar[Kind]

    @property
    def main(self) -> str:
        """Name of the value to report."""
        ...

    @property
    def item_score(self) -> str:
        """Name of the per-item value that ranks items from worst to best."""
        ...

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every value."""
        ...

    @property
    def protocol(self) -> str:
        """The protocol in one line, for readers of the results."""
        ...

    def update(self, name: str, prediction: Any, annotation: Any) -> None:
        """Score one item."""
        ...

    def merge(self, other: Self) -> None:
        """Add the items of another instance with the same settings."""
        ...

    def compute(self) -> ItemScores:
        """The values over all items."""
        ...

    def item_scores(self) -> dict[str, ItemScores]:
        """The values of each item, sorted by name."""
        ...


@runtime_checkable
class NotingMetric(Metric, Protocol):
    """A metric that also says what its numbers do not show, as every ``Accumulator`` can."""

    @property
    def item_explanation(self) -> str:
        """What ``item_score`` is, in a few words for the report; empty if its name says it."""
        ...

    def notes(self) -> list[str]:
        """What a reader of the numbers might not expect: one sentence each."""
        ...


class Accumulator(Generic[Record]):
    """Keeps one record per item and returns them sorted by name, so that sums do not depend on the order of updates."""

    item_explanation: ClassVar[str] = ""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def add(self, name: str, record: Record) -> None:
        """Add the record of one item.

        Raises:
            ValueError: if the item has one already.
        """
        if name in self.records:
            raise ValueError(f"item {name!r} was scored twice; names must be unique")
        self.records[name] = record

    def merge(self, other: Accumulator[Record]) -> None:
        """Add all records of another accumulator, or none of them.

        Raises:
            ValueError: if both contain an item, or their settings differ.
        """
        mine, theirs = ({**vars(one), "records": None} for one in (self, other))
        if type(self) is not type(other) or mine != theirs:
            raise ValueError(f"only metrics with equal settings can be merged, got {mine} and {theirs}")
        for name in self.records.keys() & other.records.keys():
            self.add(name, other.records[name])
        self.records.update(other.records)

    def notes(self) -> list[str]:
        """What a reader of the numbers might not expect: one sentence each; none by default."""
        return []

    def in_order(self) -> list[tuple[str, Record]]:
        """(name, record), sorted by name."""
        return sorted(self.records.items())


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none. Exact to the last bit in any order."""
    given = [value for value in values if value is not None]
    return math.fsum(given) / len(given) if given else None
