"""Metrics that add up: values of single items, joined in any order and over processes, always to the same number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from eigenseg.data.datasets.base import Kind

Record = TypeVar("Record")
# What one item scored, by name of the quantity; what an item has no value for is None.
ItemScores = dict[str, float | None]


class Metric(Protocol):
    """What scores predictions; a new one is a class with these members and a yaml.

    ``kind`` says which annotation it takes.
    """

    kind: ClassVar[Kind]

    @property
    def main(self) -> str:
        """Which of the numbers people quote."""
        ...

    @property
    def item_score(self) -> str:
        """Which of the numbers of an item ranks the items from worst to best."""
        ...

    @property
    def tag(self) -> str:
        """What tells this protocol from its relatives; printed beside every number."""
        ...

    @property
    def protocol(self) -> str:
        """The rules in one line, for people who read the number."""
        ...

    def update(self, name: str, prediction: Any, annotation: Any) -> None:
        """Score one item."""
        ...

    def merge(self, other: Self) -> None:
        """Take over the items of another instance with the same settings."""
        ...

    def compute(self) -> ItemScores:
        """The numbers of all items together."""
        ...

    def item_scores(self) -> dict[str, ItemScores]:
        """The numbers of every item, by name, sorted."""
        ...


class Accumulator(Generic[Record]):
    """Keeps one record an item, and hands them out sorted by name: sums never depend on who added what when."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def add(self, name: str, record: Record) -> None:
        """Keep the record of one item.

        Raises:
            ValueError: if the item has one already.
        """
        if name in self.records:
            raise ValueError(f"item {name!r} was scored twice; names must be unique")
        self.records[name] = record

    def merge(self, other: Accumulator[Record]) -> None:
        """Take over all records of another one, or none.

        Raises:
            ValueError: if both hold an item, or their settings differ.
        """
        mine, theirs = ({**vars(one), "records": None} for one in (self, other))
        if type(self) is not type(other) or mine != theirs:
            raise ValueError(f"metrics are merged with equal settings only, got {mine} and {theirs}")
        for name in self.records.keys() & other.records.keys():
            self.add(name, other.records[name])
        self.records.update(other.records)

    def in_order(self) -> list[tuple[str, Record]]:
        """(name, record), sorted by name."""
        return sorted(self.records.items())


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is there; None of nothing. Exact to the last bit in any order."""
    given = [value for value in values if value is not None]
    return math.fsum(given) / len(given) if given else None
