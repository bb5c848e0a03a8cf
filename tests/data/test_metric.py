"""Items may be scored in any process and merged in any order: the values are equal to the last bit."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from metric_samples import as_video, clip, frayed, near, objects, rectangles

from eigenseg.data.datasets import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Accumulator, mean
from eigenseg.discovery.metrics.corloc import CorLoc
from eigenseg.discovery.metrics.localization import Localization
from eigenseg.segment.metrics import CocoAP, SemanticIoU, TokenCutSaliency, ToolboxSaliency
from eigenseg.video.metrics import DavisScore, ForegroundIoU, ImageSlotScores, SlotScores

# Given as text, so that the order by name is neither the order of the numbers nor that of scoring.
NAMES = ("b/10", "b/9", "a/1", "c", "B", "aa")
SIZE = (14, 17)
METRICS: dict[str, Callable[[], Any]] = {
    "corloc": CorLoc,
    "corloc_no_hard": lambda: CorLoc(hard="no_hard"),
    "localization": lambda: Localization(classes=True),
    "ap_masks": CocoAP,
    "ap_boxes_by_class": lambda: CocoAP("bbox", class_agnostic=False),
    "ap_boundaries": lambda: CocoAP("boundary"),
    "saliency_toolbox": ToolboxSaliency,
    "saliency_tokencut": TokenCutSaliency,
    "semantic_hungarian": lambda: SemanticIoU(4),
    "semantic_majority": lambda: SemanticIoU(4, "majority"),
    "davis_unsupervised": DavisScore,
    "davis_2016": lambda: DavisScore("davis2016"),
    "davis_oracle": lambda: DavisScore("oracle_per_frame"),
    "foreground": ForegroundIoU,
    "slots": SlotScores,
    "image_slots": ImageSlotScores,
}


def sample(kind: str, rng: np.random.Generator) -> tuple[Any, Any]:
    if kind == "objects":
        annotation = objects(rng, SIZE, 4, crowd=0.1)
        return near(rng, annotation, 2), annotation
    if kind == "saliency":
        mask = rectangles(rng, 1, SIZE)[1][0]
        soft = frayed(rng, mask) * rng.integers(100, 256, SIZE) + rng.integers(0, 90, SIZE)
        return soft.clip(0, 255).astype(np.uint8), mask.astype(np.uint8) * 255
    if kind == "semantic":
        annotation_map = clip(rng, 1, SIZE, 3, void=True)[0]
        return rng.permutation(5)[np.where(rng.random(SIZE) < 0.3, 4, annotation_map % 5)], annotation_map
    annotation_maps = clip(rng, 4, SIZE, 2, void=True)
    annotation_maps[0, :2, :2] = [[1, 1], [2, 2]]
    return np.where(rng.random(annotation_maps.shape) < 0.1, 3, annotation_maps % 255), as_video(annotation_maps)


@functools.cache
def items(kind: str) -> dict[str, tuple[Any, Any]]:
    rng = np.random.default_rng(7)
    return {name: sample(kind, rng) for name in NAMES}


def scored(key: str, names: tuple[str, ...] | list[str]) -> Any:
    metric = METRICS[key]()
    for name in names:
        metric.update(name, *items(metric.kind)[name])
    return metric


@functools.cache
def at_once(key: str) -> tuple[str, str]:
    metric = scored(key, NAMES)
    return repr(metric.compute()), repr(metric.item_scores())


partitions = st.tuples(st.permutations(NAMES), st.lists(st.integers(0, 3), min_size=len(NAMES), max_size=len(NAMES)))


@pytest.mark.parametrize("key", METRICS)
@settings(deadline=None, max_examples=25)
@given(partitions, st.permutations(range(4)))
def test_any_split_over_workers_merged_in_any_order_gives_the_same_bits(
    key: str, split: tuple[list[str], list[int]], order: list[int]
) -> None:
    parts = [scored(key, [name for name, worker in zip(*split, strict=True) if worker == i]) for i in range(4)]
    joined = METRICS[key]()
    for i in order:
        joined.merge(parts[i])
    assert (repr(joined.compute()), repr(joined.item_scores())) == at_once(key)


@pytest.mark.parametrize("key", METRICS)
def test_a_metric_works_after_pickling(key: str) -> None:
    half = pickle.loads(pickle.dumps(scored(key, NAMES[:3])))
    half.merge(pickle.loads(pickle.dumps(scored(key, NAMES[3:]))))
    assert (repr(half.compute()), repr(half.item_scores())) == at_once(key)


@pytest.mark.parametrize("key", METRICS)
def test_an_item_scored_twice_is_rejected_by_its_name(key: str) -> None:
    metric, other = scored(key, NAMES[:2]), scored(key, NAMES[1:])
    with pytest.raises(ValueError, match="item 'b/10' was scored twice; names must be unique"):
        metric.update("b/10", *items(metric.kind)["c"])
    with pytest.raises(ValueError, match="item 'b/9' was scored twice"):
        metric.merge(other)


def test_records_come_sorted_by_name() -> None:
    kept: Accumulator[int] = Accumulator()
    for i, name in enumerate(NAMES):
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


@pytest.mark.parametrize("key", METRICS)
def test_without_items_a_metric_has_no_values(key: str) -> None:
    metric = METRICS[key]()
    assert metric.compute()[metric.main] is None
    assert metric.item_scores() == {}


@pytest.mark.parametrize("key", METRICS)
def test_the_main_value_and_the_item_score_are_among_the_reported_values(key: str) -> None:
    metric = scored(key, NAMES)
    assert metric.compute()[metric.main] is not None
    assert sorted(metric.item_scores()) == sorted(NAMES)
    assert all(metric.item_score in values for values in metric.item_scores().values())


def test_predictions_of_the_samples_have_equal_scores_across_images_so_that_their_order_matters() -> None:
    scores = [set(items("objects")[name][0].scores) for name in NAMES]
    assert all(mine & other for mine in scores for other in scores)


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
