"""Mean, recall and decay equal the published ones, and decay stays correct beyond 256 frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from eigenseg.video.metrics.statistics import decay, nan_mean, recall

NAN = float("nan")
series = arrays(np.float64, st.integers(1, 700), elements=st.floats(0, 1))


def statistics(values: np.ndarray) -> list[float]:
    return [nan_mean(values), recall(values), decay(values)]


def test_statistics_equal_the_published_ones(test_data: Path) -> None:
    golden = np.load(test_data / "golden_video" / "davis_metrics.npz")
    assert np.isnan(golden["stat_values"][1]).any()
    for values, expected in zip(golden["stat_values"], golden["stat_MRD"], strict=True):
        np.testing.assert_allclose(statistics(values), expected, rtol=0, atol=1e-12)
    for frames in (2, 3, 5, 7, 9):
        values, expected = golden[f"stat_short{frames}_values"], golden[f"stat_short{frames}_MRD"]
        np.testing.assert_allclose(statistics(values), expected, rtol=0, atol=1e-12)


def test_a_score_that_falls_from_1_to_0_has_the_known_statistics() -> None:
    assert statistics(np.linspace(1, 0, 50)) == pytest.approx([0.5, 0.5, 0.755102], abs=5e-7)


@given(series)
def test_decay_is_the_first_quarter_minus_the_last_with_borders_in_both(values: np.ndarray) -> None:
    # Ends of the quarters, halves rounded up, in integers: round(1 + (n - 1) i / 4) - 1.
    frames = len(values)
    ends = [((frames - 1) * i + 2) // 4 for i in range(5)]
    first, last = values[: ends[1] + 1].tolist(), values[ends[3] :].tolist()
    assert decay(values) == pytest.approx(sum(first) / len(first) - sum(last) / len(last), abs=1e-12)


def test_decay_of_300_frames_does_not_overflow_8_bits() -> None:
    falling = np.linspace(1, 0, 300)
    # Frames 1 to 76 and 225 to 300; neighbors differ by 1/299.
    assert decay(falling) == pytest.approx(224 / 299, abs=1e-12)


@given(series)
def test_recall_counts_values_strictly_above_one_half(values: np.ndarray) -> None:
    values = np.concatenate([values, [0.5]])
    assert recall(values) == sum(value > 0.5 for value in values.tolist()) / len(values)


def test_nan_is_a_miss_in_recall_and_ignored_in_means() -> None:
    values = np.array([0.8, NAN, 0.6, NAN, 0.2])
    assert nan_mean(values) == pytest.approx(1.6 / 3)
    assert recall(values) == 2 / 5
    # Quarters of five frames: the first two and the last two.
    assert decay(values) == pytest.approx(0.8 - 0.2)


@pytest.mark.filterwarnings("error")
def test_without_values_the_statistics_are_nan_without_a_warning() -> None:
    assert np.isnan(statistics(np.zeros(0))).all()
    assert np.isnan(nan_mean(np.full(3, NAN)))
    assert recall(np.full(3, NAN)) == 0
