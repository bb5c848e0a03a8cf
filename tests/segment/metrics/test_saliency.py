"""Both families of saliency metrics: published values, and slow versions that loop over thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from metric_references import Maps, f_of, ratio, slow_tokencut, slow_toolbox

from eigenseg.data.label_maps import read_gray_map
from eigenseg.segment.metrics import TokenCutSaliency, ToolboxSaliency

# Few gray levels, so that ties with thresholds are frequent; 25 and 26 lie on both sides of 0.1.
grays = st.sampled_from([0, 1, 2, 25, 26, 51, 127, 128, 200, 254, 255])
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda size: st.tuples(*[arrays(np.uint8, size, elements=grays)] * 2)
)
maps_lists = st.lists(pairs, min_size=1, max_size=4)


def evaluate(metric: Any, images: Maps) -> dict[str, float | None]:
    for i, (prediction, annotation) in enumerate(images):
        metric.update(f"{i:03d}", prediction, annotation)
    values: dict[str, float | None] = metric.compute()
    return values


@pytest.fixture(scope="module")
def sod(test_data: Path) -> Maps:
    folder = test_data / "saliency_sod"
    files = sorted((folder / "ground_truth").iterdir())
    assert len(files) == 300
    return [(read_gray_map(folder / "dss" / file.name), read_gray_map(file)) for file in files]


def test_the_toolbox_family_gives_the_published_values_of_dss_on_sod(sod: Maps) -> None:
    published = {"mae": 0.121322, "max_f": 0.843922, "adaptive_f": 0.794789, "max_iou": 0.655710, "mean_iou": 0.607948}
    assert evaluate(ToolboxSaliency(), sod) == pytest.approx(published, abs=1e-6)


def test_the_tokencut_family_gives_the_known_values_of_dss_on_sod(sod: Maps) -> None:
    expected = {"iou": 0.6111958, "accuracy": 0.8791551, "max_f": 0.8037654}
    assert evaluate(TokenCutSaliency(), sod) == pytest.approx(expected, abs=1e-7)


def test_binarized_maps_have_another_maximal_f_and_the_same_iou(sod: Maps) -> None:
    values = evaluate(TokenCutSaliency(), [((map_ > 127).astype(np.uint8) * 255, annotation) for map_, annotation in sod])
    assert values["max_f"] == pytest.approx(0.7903621, abs=1e-7)
    assert values["iou"] == pytest.approx(0.6111958, abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(maps_lists)
def test_the_toolbox_family_equals_a_slow_count_at_every_threshold(images: Maps) -> None:
    assert evaluate(ToolboxSaliency(), images) == pytest.approx(slow_toolbox(images), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(maps_lists)
def test_the_tokencut_family_equals_a_slow_count_at_every_threshold(images: Maps) -> None:
    assert evaluate(TokenCutSaliency(), images) == pytest.approx(slow_tokencut(images), abs=1e-12)


@settings(deadline=None)
@given(pairs)
def test_images_are_ranked_by_iou_at_one_half(pair: tuple[np.ndarray, np.ndarray]) -> None:
    (prediction, annotation), toolbox, tokencut = pair, ToolboxSaliency(), TokenCutSaliency()
    toolbox.update("a", prediction, annotation)
    tokencut.update("a", prediction, annotation)
    peak, foreground = max(int(prediction.max()), 1), annotation >= 25.5
    predicted = prediction / 255 / (peak / 255) >= 128 / 255
    assert toolbox.item_scores()["a"]["iou"] == ratio(predicted & foreground, predicted | foreground)
    predicted, foreground = prediction >= 128, annotation > 0
    precision, recall = ratio(predicted & foreground, predicted, 1.0), ratio(predicted & foreground, foreground, 1.0)
    values = tokencut.item_scores()["a"]
    assert values["iou"] == (
        ratio(predicted & foreground, predicted | foreground) if (predicted | foreground).any() else None
    )
    assert values["f"] == pytest.approx(f_of(precision, recall), abs=1e-12)
    assert values["accuracy"] == ratio(predicted == foreground, np.ones_like(foreground))


BLACK, WHITE = np.zeros((3, 4), dtype=np.uint8), np.full((3, 4), 255, dtype=np.uint8)
HALF = np.repeat([[255], [255], [0], [0]], 3, axis=1).T.astype(np.uint8)


@pytest.mark.parametrize(
    ("prediction", "annotation", "toolbox", "tokencut"),
    [
        # MAE, adaptive F, max F; then IoU, accuracy, max F. The toolbox has no average over maps that are all zero.
        (BLACK, HALF, (None, None, None), (0.0, 0.5, 0.0)),
        (BLACK, BLACK, (None, None, None), (None, 1.0, 1.0)),
        (HALF, BLACK, (0.5, 0.0, 0.0), (0.0, 0.5, 0.0)),
        (HALF, WHITE, (0.5, 0.65 / 0.8, 1.0), (0.5, 0.5, 0.65 / 0.8)),
        (HALF, HALF, (0.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        (WHITE, WHITE, (None, 1.0, 1.0), (1.0, 1.0, 1.0)),
        (WHITE, HALF, (None, 0.65 / 1.15, 0.65 / 1.15), (0.5, 0.5, 0.65 / 1.15)),
    ],
)
def test_empty_and_full_maps_and_annotations_have_defined_scores(
    prediction: np.ndarray, annotation: np.ndarray, toolbox: tuple[float | None, ...], tokencut: tuple[float | None, ...]
) -> None:
    values = evaluate(ToolboxSaliency(), [(prediction, annotation)])
    assert [values[key] for key in ("mae", "adaptive_f", "max_f")] == pytest.approx(toolbox, abs=1e-12)
    values = evaluate(TokenCutSaliency(), [(prediction, annotation)])
    assert [values[key] for key in ("iou", "accuracy", "max_f")] == pytest.approx(tokencut, abs=1e-12)


def test_the_toolbox_leaves_maps_that_are_all_zero_out_of_its_denominators_and_of_the_mae() -> None:
    # The published sums: an empty map adds precision 1/2, recall 1 and IoU 1/2 at threshold 0, where all is foreground.
    values = evaluate(ToolboxSaliency(), [(HALF, HALF), (BLACK, HALF)])
    at_zero = 1.3 * (0.5 + 0.5) * (1 + 1) / (0.3 * (0.5 + 0.5) + (1 + 1))
    assert values["max_f"] == pytest.approx(max(1.0, at_zero))
    assert values["adaptive_f"] == pytest.approx(1 + 0.65 / 1.15)
    assert (values["mae"], values["max_iou"]) == (0.0, 1.0)
    assert values["mean_iou"] == pytest.approx(1.0)  # 255 thresholds of HALF at 1, and 1/2 + 1/2 at threshold 0
    metric = ToolboxSaliency()
    for i, map_ in enumerate((HALF, BLACK, WHITE)):
        metric.update(str(i), map_, HALF)
    empty, constant = metric.notes()
    assert empty.startswith("1 of 3 maps are all zero: averages are divided by the number of the others")
    assert constant.startswith("1 of 3 maps have one value everywhere and no MAE")
    assert metric.compute()["mae"] == 0.0


def test_the_toolbox_bins_by_the_published_quotient_of_floats() -> None:
    # 15/255 / (75/255) is 0.19999999999999998 in floats, below the threshold 51/255 that it equals.
    prediction, annotation = np.array([[15, 75, 0, 0]], dtype=np.uint8), np.array([[255, 255, 0, 0]], dtype=np.uint8)
    assert 15 / 255 / (75 / 255) < 51 / 255
    values = evaluate(ToolboxSaliency(), [(prediction, annotation)])
    assert values["mean_iou"] == pytest.approx((0.5 + 50 * 1 + 205 * 0.5) / 256)


@pytest.mark.parametrize("metric", [ToolboxSaliency, TokenCutSaliency])
def test_maps_and_annotations_of_0_and_1_are_noted_where_they_mean_nothing(metric: Any) -> None:
    ones = HALF // 255
    for map_, annotation, family, note in (
        (ones, HALF, TokenCutSaliency, "2 of 2 maps hold 0 and 1 alone"),
        (HALF, ones, ToolboxSaliency, "2 of 2 annotations have no value of 26 or more"),
        (HALF, HALF, None, ""),
        (HALF, BLACK, None, ""),
    ):
        scored = metric()
        for name in "ab":
            scored.update(name, map_, annotation)
        notes = scored.notes()
        assert len(notes) == (metric is family)
        assert all(one.startswith(note) for one in notes)


def test_an_image_without_any_foreground_is_skipped_in_the_mean_iou_only() -> None:
    values = evaluate(TokenCutSaliency(), [(HALF, WHITE), (BLACK, BLACK)])
    assert (values["iou"], values["accuracy"]) == (0.5, 0.75)


@pytest.mark.parametrize("metric", [ToolboxSaliency, TokenCutSaliency])
def test_a_map_of_another_size_or_type_raises(metric: Any) -> None:
    with pytest.raises(ValueError, match="a.png: the map has 4x3 pixels, the annotation 3x4; predict in original pixels"):
        metric().update("a.png", BLACK, BLACK.T)
    with pytest.raises(ValueError, match=r"a.png: the prediction must be \(H, W\) uint8, got \(3, 4\) float64"):
        metric().update("a.png", BLACK / 255, BLACK)
    with pytest.raises(ValueError, match=r"a.png: the annotation must be \(H, W\) uint8, got \(3, 4, 1\) uint8"):
        metric().update("a.png", BLACK, BLACK[..., None])
