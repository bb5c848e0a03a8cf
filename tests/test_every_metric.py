"""What every metric promises: a new one gets these tests by a line in ``METRICS``."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from metric_references import (
    davis_j_and_f,
    injections,
    localized,
    majorities,
    mean_ari,
    mean_iou,
    numbered,
    painted,
    pycocotools_scores,
    sequence_iou,
    slow_tokencut,
    slow_toolbox,
)
from metric_samples import as_video, clip, frayed, near, objects, rectangles
from numpy.typing import NDArray

from eigenseg.data.datasets import ObjectAnnotation
from eigenseg.data.metric import NotingMetric
from eigenseg.discovery.metrics import CorLoc, Localization
from eigenseg.segment.metrics import CocoAP, SemanticIoU, TokenCutSaliency, ToolboxSaliency
from eigenseg.video.metrics import DavisScore, ForegroundIoU, ImageSlotScores, SlotScores

# pycocotools' result type does not support NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

# Given as text, so that the order by name is neither the order of the numbers nor that of scoring.
NAMES = ("b/10", "b/9", "a/1", "c", "B", "aa")
SIZE = (14, 17)


def without_hard(annotation: ObjectAnnotation) -> NDArray[np.bool_]:
    return ~(annotation.crowd | annotation.difficult | annotation.truncated)


# Every metric, and another way to its main number; None where its own test file compares more than that.
METRICS: dict[str, tuple[Callable[[], Any], Callable[[Any], float | None] | None]] = {
    "corloc": (CorLoc, lambda items: localized(items, lambda a: ~a.crowd)),
    "corloc_no_hard": (lambda: CorLoc(hard="no_hard"), lambda items: localized(items, without_hard)),
    "localization": (
        lambda: Localization(classes=True),
        lambda items: localized(items, lambda a: np.ones(len(a), dtype=bool), both_ends=1),
    ),
    "ap_masks": (CocoAP, lambda items: pycocotools_scores(numbered(items), "segm", True)["AP"]),
    "ap_boxes_by_class": (
        lambda: CocoAP("bbox", class_agnostic=False),
        lambda items: pycocotools_scores(numbered(items), "bbox", False)["AP"],
    ),
    "ap_boundaries": (lambda: CocoAP("boundary"), None),
    "saliency_toolbox": (ToolboxSaliency, lambda items: slow_toolbox(list(items.values()))["max_f"]),
    "saliency_tokencut": (TokenCutSaliency, lambda items: slow_tokencut(list(items.values()))["max_f"]),
    "semantic_hungarian": (lambda: SemanticIoU(4), lambda items: mean_iou(items, 4, injections)),
    "semantic_majority": (lambda: SemanticIoU(4, "majority"), lambda items: mean_iou(items, 4, majorities)),
    "davis_unsupervised": (DavisScore, lambda items: davis_j_and_f(items, per_frame=False)),
    "davis_2016": (lambda: DavisScore("davis2016"), None),
    "davis_oracle": (lambda: DavisScore("oracle_per_frame"), lambda items: davis_j_and_f(items, per_frame=True)),
    "foreground": (ForegroundIoU, sequence_iou),
    "slots": (SlotScores, lambda items: mean_ari((p, a.labels) for p, a in items.values())),
    "image_slots": (ImageSlotScores, lambda items: mean_ari(painted(*item) for item in items.values())),
}


def sample(kind: str, rng: np.random.Generator) -> tuple[Any, Any]:
    if kind == "objects":
        annotation = objects(rng, SIZE, 4, crowd=0.1)
        return near(rng, annotation, 2), annotation
    if kind == "saliency":
        mask = rectangles(rng, 1, SIZE)[1][0]
        soft = frayed(rng, mask) * rng.integers(100, 256, SIZE) + rng.integers(0, 90, SIZE)
        # Gray levels on both sides of what the protocols take for foreground.
        levels = rng.choice([127, 128, 255], SIZE)
        return soft.clip(0, 255).astype(np.uint8), np.where(mask, levels, rng.choice([0, 1, 20], SIZE)).astype(np.uint8)
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
    metric = METRICS[key][0]()
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
    joined = METRICS[key][0]()
    for i in order:
        joined.merge(parts[i])
    assert (repr(joined.compute()), repr(joined.item_scores())) == at_once(key)


@pytest.mark.parametrize("key", [key for key, (_, reference) in METRICS.items() if reference is not None])
@pytest.mark.parametrize("seed", range(5))
def test_the_main_number_equals_the_reference(key: str, seed: int) -> None:
    make, reference = METRICS[key]
    metric, rng = make(), np.random.default_rng(seed)
    samples = {name: sample(metric.kind, rng) for name in NAMES}
    for name, (prediction, annotation) in samples.items():
        metric.update(name, prediction, annotation)
    assert reference is not None
    assert metric.compute()[metric.main] == pytest.approx(reference(samples), abs=1e-12)


@pytest.mark.parametrize("key", METRICS)
def test_numbers_are_finite_or_none_and_a_single_item_scores_what_it_contributes(key: str) -> None:
    metric = scored(key, NAMES)
    numbers = [*metric.compute().values(), *(value for item in metric.item_scores().values() for value in item.values())]
    assert all(number is None or np.isfinite(number) for number in numbers)
    (alone,) = scored(key, NAMES[:1]).item_scores().values()
    assert alone == metric.item_scores()[NAMES[0]] or metric.kind == "semantic"  # whose matching depends on all items


@pytest.mark.parametrize("key", METRICS)
def test_a_metric_explains_the_score_of_its_items_and_has_no_note_on_ordinary_ones(key: str) -> None:
    metric = scored(key, NAMES)
    assert isinstance(metric, NotingMetric)
    assert len(metric.item_explanation) > 20
    assert metric.notes() == []


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


@pytest.mark.parametrize("key", METRICS)
def test_without_items_a_metric_has_no_values(key: str) -> None:
    metric = METRICS[key][0]()
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
