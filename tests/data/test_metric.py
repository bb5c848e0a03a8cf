"""Records of items are kept once and in the order of their names; means do not depend on the order of values."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from eigenseg.data.datasets import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Accumulator, mean
from eigenseg.discovery.metrics import CorLoc


def test_records_come_sorted_by_name() -> None:
    kept: Accumulator[int] = Accumulator()
    for i, name in enumerate(("b/10", "b/9", "a/1", "c", "B", "aa")):
        kept.add(name, i)
    assert kept.in_order() == [("B", 4), ("a/1", 2), ("aa", 5), ("b/10", 0), ("b/9", 1), ("c", 3)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.randoms())
def test_a_mean_is_the_exact_sum_rounded_once_in_any_order(values: list[float], random: Any) -> None:
    exact = float(sum(map(Fraction, values))) / len(values)
    random.shuffle(values)
    assert mean(values) == exact


def test_none_is_ignored_in_a_mean_and_the_mean_of_nothing_is_none() -> None:
    assert mean([None, 1.0, None, 0.0, 0.5]) == 0.5
    assert mean([None, None]) is None
    assert mean(iter([])) is None


def test_metrics_with_other_settings_are_not_merged_and_a_failed_merge_changes_nothing() -> None:
    metric, other = CorLoc(0.5), CorLoc(0.75)
    for one in (metric, other):
        one.update("a", Detections.none(), ObjectAnnotation(np.array([[0.0, 0, 1, 1]])))
    with pytest.raises(ValueError, match="only metrics with equal settings can be merged"):
        metric.merge(other)
    twin = CorLoc(0.5)
    for name in ("b", "a", "c"):
        twin.update(name, Detections.none(), ObjectAnnotation(np.array([[0.0, 0, 1, 1]])))
    with pytest.raises(ValueError, match="item 'a' was scored twice"):
        metric.merge(twin)
    assert metric.records.keys() == {"a"}
