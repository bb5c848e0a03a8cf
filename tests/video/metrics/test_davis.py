"""J and F of videos equal the official evaluator, on its recorded outputs and on real results, in every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_samples import as_video, slow_jaccard
from scipy import ndimage

from eigenseg.data.label_maps import read_label_map
from eigenseg.video.metrics import DavisScore, score_video
from eigenseg.video.metrics.regions import pairwise_scores, regions_of_labels, regions_of_masks, tolerance

SEQUENCES = ("a_void_swap", "b_missing", "c_never", "d_empty", "e_long")
REAL = ("car-shadow", "drift-straight", "libby")
MODES: dict[str, Any] = {"unsup": "unsupervised", "semi": "semi_supervised"}


@pytest.fixture(scope="module")
def golden(test_data: Path) -> dict[str, Any]:
    return dict(np.load(test_data / "golden_video" / "davis_metrics.npz"))


@pytest.mark.parametrize("task", MODES)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_every_object_scores_as_in_the_official_evaluator(golden: dict[str, Any], task: str, sequence: str) -> None:
    scores = score_video(golden[f"pred_{task}_{sequence}"], golden[f"gt_{sequence}"], MODES[task])
    jaccard, contour = golden[f"{task}_{sequence}_J"], golden[f"{task}_{sequence}_F"]
    assert scores.first == (task == "semi")
    if task == "unsup":
        # Official rows are in the order of the proposals.
        match = golden[f"unsup_{sequence}_match"]
        order = np.argsort(match[:, 1])
        jaccard, contour = jaccard[order], contour[order]
        # An object without a prediction ties between several empty proposals.
        tied = jaccard.max(axis=1) == (0 if sequence == "c_never" else -1)
        matches = np.where(tied[:, None], -1, scores.proposals + 1)
        expected = np.where(tied, -1, match[order, 0])[:, None].repeat(matches.shape[1], axis=1)
        np.testing.assert_array_equal(matches, expected)
    np.testing.assert_allclose(scores.jaccard, jaccard, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores.contour, contour, rtol=0, atol=1e-12)


@pytest.mark.parametrize("task", MODES)
def test_scores_of_all_sequences_equal_the_official_ones(golden: dict[str, Any], task: str) -> None:
    metric = DavisScore(MODES[task])
    for sequence in SEQUENCES:
        metric.update(sequence, golden[f"pred_{task}_{sequence}"], as_video(golden[f"gt_{sequence}"]))
    values = metric.compute()
    keys = {"J_M": "J_mean", "J_R": "J_recall", "F_M": "F_mean", "F_R": "F_recall"}
    for official, name in keys.items():
        assert values[name] == pytest.approx(golden[f"{task}_{official}"].mean(), abs=1e-12)
    assert values["J&F"] == pytest.approx(float(golden[f"{task}_global_JF"]), abs=1e-12)
    assert (values["objects"], values["videos"]) == (10, 5)
    # The official decay of the long sequence overflows at 256 frames and is NaN; the others are correct.
    per_object = [row for _, scores in metric.in_order() for row in metric.statistics(scores)]
    for official, column in (("J_D", 2), ("F_D", 5)):
        expected = golden[f"{task}_{official}"]
        ours = [row[column] for row in per_object]
        assert np.isnan(expected[-1])
        np.testing.assert_allclose(sorted(ours[:-1]), sorted(expected[:-1]), rtol=0, atol=1e-12)
        row = golden[f"{task}_e_long_{official[0]}"][0]
        ends = [round((len(row) - 1) * i / 4 + 1e-10) for i in range(5)]
        assert ours[-1] == pytest.approx(row[: ends[1] + 1].mean() - row[ends[3] :].mean(), abs=1e-12)
        assert values[f"{official[0]}_decay"] == pytest.approx(np.mean(ours), abs=1e-12)


def test_scores_of_all_pairs_equal_the_official_ones(golden: dict[str, Any]) -> None:
    annotation, prediction = golden["gt_a_void_swap"], golden["pred_unsup_a_void_swap"]
    radius = tolerance(annotation.shape[1:])
    for t in range(len(annotation)):
        mine, other = (np.where(annotation[t] == 255, 0, maps[t]).astype(np.int32) for maps in (prediction, annotation))
        jaccard, contour = pairwise_scores(regions_of_labels(mine, 5, radius), regions_of_labels(other, 3, radius))
        np.testing.assert_allclose(jaccard, golden["a_pair_J"][:, :, t], rtol=0, atol=1e-12)
        np.testing.assert_allclose(contour, golden["a_pair_F"][:, :, t], rtol=0, atol=1e-12)


def overlapping(golden: dict[str, Any]) -> np.ndarray:
    shape = golden["oracle_a_proposals_shape"]
    return np.unpackbits(golden["oracle_a_proposals"])[: shape.prod()].reshape(shape).astype(bool)


def test_oracle_scores_of_overlapping_proposals_equal_the_published_per_frame_evaluator(golden: dict[str, Any]) -> None:
    scores = score_video(overlapping(golden), golden["gt_a_void_swap"], "oracle_per_frame")
    # The order of published rows differs per frame, so frames are compared as sets of pairs.
    for t in range(scores.jaccard.shape[1]):
        ours = sorted(zip(scores.jaccard[:, t].round(12), scores.contour[:, t].round(12), strict=True))
        theirs = sorted(zip(golden["oracle_a_J"][:, t].round(12), golden["oracle_a_F"][:, t].round(12), strict=True))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-12)
    metric = DavisScore("oracle_per_frame")
    metric.update("a", overlapping(golden), as_video(golden["gt_a_void_swap"]))
    values, expected = metric.compute(), golden["oracle_a_mean_JMRD_FMRD"]
    for row, metric_name in zip(expected, "JF", strict=True):
        ours = [values[f"{metric_name}_{name}"] for name in ("mean", "recall", "decay")]
        np.testing.assert_allclose(ours, row, rtol=0, atol=1e-12)


def test_overlapping_proposals_matched_once_per_video_give_the_official_rows(golden: dict[str, Any]) -> None:
    annotation, proposals = golden["gt_a_void_swap"], overlapping(golden)
    radius = tolerance(annotation.shape[1:])
    for proposal, number in golden["video_a_match"].tolist():
        row = golden["video_a_match"][:, 1].tolist().index(number)
        for t in range(len(annotation)):
            mine, other = proposals[proposal - 1, t] & (annotation[t] != 255), annotation[t] == number
            scores = pairwise_scores(regions_of_masks(mine[None], radius), regions_of_masks(other[None], radius))
            assert scores[0][0, 0] == pytest.approx(golden["video_a_J"][row, t], abs=1e-12)
            assert scores[1][0, 0] == pytest.approx(golden["video_a_F"][row, t], abs=1e-12)


def read_maps(folder: Path) -> np.ndarray:
    return np.stack([read_label_map(path) for path in sorted(folder.glob("*.png"))])


@pytest.fixture(scope="module")
def davis(test_data: Path) -> dict[tuple[str, str], np.ndarray]:
    """Label maps of annotations and of published results, by (kind, sequence)."""
    folders = {
        "binary": "Annotations/480p",
        "objects": "Annotations_unsupervised/480p",
        "osvos": "results/semi-supervised/osvos",
        "rvos": "results/unsupervised/rvos",
    }
    return {(kind, name): read_maps(test_data / "davis" / path / name) for kind, path in folders.items() for name in REAL}


def test_osvos_has_the_official_semi_supervised_scores(davis: dict[Any, np.ndarray]) -> None:
    expected = {
        "car-shadow": (0.928401595, 0.917407183),
        "drift-straight": (0.665460968, 0.706774261),
        "libby": (0.623026966, 0.751231926),
    }
    for name, values in expected.items():
        scores = score_video(davis["osvos", name], davis["objects", name].astype(np.uint8), "semi_supervised")
        assert (scores.jaccard.mean(), scores.contour.mean()) == pytest.approx(values, abs=1e-6)


def test_rvos_has_the_official_unsupervised_scores(davis: dict[Any, np.ndarray]) -> None:
    expected = {
        "car-shadow": (0.919578533, 0.957467929),
        "drift-straight": (0.797843661, 0.731873621),
        "libby": (0.625851898, 0.778968044),
    }
    metric = DavisScore()
    for name in REAL:
        metric.update(name, davis["rvos", name], as_video(davis["objects", name]))
    for name, values in expected.items():
        assert metric.item_scores()[name] == pytest.approx(
            {"J": values[0], "F": values[1], "J&F": sum(values) / 2, "J_1": values[0], "F_1": values[1]}, abs=1e-6
        )
    whole = metric.compute()
    ours = (whole["J_mean"], whole["F_mean"], whole["J&F"])
    assert ours == pytest.approx((0.781091, 0.822770, 0.801930), abs=1e-6)


def published_2016_statistics(row: np.ndarray) -> list[float]:
    """Mean, recall and decay of DAVIS 2016's evaluator: NaN in the first and last frame, which enter no mean."""
    marked = row.copy()
    marked[[0, -1]] = np.nan
    inner = marked[1:-1]
    ends = [int(np.floor(1 + (len(inner) - 1) * i / 4 + 0.5)) - 1 for i in range(5)]
    quarters = [inner[ends[i] : ends[i + 1] + 1] for i in range(4)]
    return [float(np.nanmean(marked)), sum(inner > 0.5) / len(inner), quarters[0].mean() - quarters[3].mean()]


def test_davis_2016_leaves_the_first_and_last_frame_out_of_every_mean(davis: dict[Any, np.ndarray]) -> None:
    # Mean J and F over all frames, as printed for the bare functions: what the published rule does not give.
    printed = {"car-shadow": (0.9237, 0.9131), "drift-straight": (0.6569, 0.6982), "libby": (0.6198, 0.7474)}
    metric = DavisScore("davis2016")
    expected = []
    for name in REAL:
        prediction, annotation = davis["osvos", name] > 0, davis["binary", name] > 0
        metric.update(name, davis["osvos", name], as_video(davis["binary", name]))
        radius = int(np.ceil(0.008 * np.hypot(*annotation.shape[1:])))
        rows = np.array(
            [(slow_jaccard(*pair), shifted_contour(*pair, radius)) for pair in zip(prediction, annotation, strict=True)]
        ).T
        assert rows.mean(axis=1) == pytest.approx(printed[name], abs=5.0000001e-5)
        expected.append([value for row in rows for value in published_2016_statistics(row)])
        item = metric.item_scores()[name]
        assert (item["J"], item["F"]) == pytest.approx((expected[-1][0], expected[-1][3]), abs=1e-12)
        assert abs(item["J"] - rows[0].mean()) > 1e-3
    names = [f"{metric_name}_{name}" for metric_name in "JF" for name in ("mean", "recall", "decay")]
    values = metric.compute()
    assert [values[name] for name in names] == pytest.approx(np.mean(expected, axis=0), abs=1e-12)


def shifted_contour(mine: np.ndarray, other: np.ndarray, radius: int) -> float:
    """F of two masks of a whole frame, with distances to the nearest boundary pixel instead of a dilation."""
    boundaries = []
    for mask in (mine, other):
        padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
        boundaries.append(
            (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:]) if mask.any() else mask & False
        )
    mine_b, other_b = boundaries
    if not mine_b.any() or not other_b.any():
        return float(mine_b.any() == other_b.any())
    near = [ndimage.distance_transform_edt(~edges) <= radius for edges in (mine_b, other_b)]
    precision, recall_ = (mine_b & near[1]).sum() / mine_b.sum(), (other_b & near[0]).sum() / other_b.sum()
    return float(2 * precision * recall_ / (precision + recall_)) if precision + recall_ else 0.0
