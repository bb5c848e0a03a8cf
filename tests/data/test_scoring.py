"""Scores of a dataset do not depend on how the work is split, and errors name the item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenseg.data.datasets import Davis, SaliencyFolder
from eigenseg.data.predictions import open_predictions
from eigenseg.data.scoring import score_dataset
from eigenseg.discovery.metrics.corloc import CorLoc
from eigenseg.segment.metrics import TokenCutSaliency
from eigenseg.video.metrics import DavisScore


@pytest.fixture
def saliency(tmp_path: Path) -> tuple[SaliencyFolder, Path]:
    """Seven masks and seven maps of noise."""
    random = np.random.default_rng(0)
    for folder in ("masks", "maps"):
        (tmp_path / folder).mkdir()
        for i in range(7):
            pixels = random.integers(0, 256, (9, 11), dtype=np.uint8)
            Image.fromarray(pixels if folder == "maps" else (pixels > 128).astype(np.uint8) * 255).save(
                tmp_path / folder / f"{i}.png"
            )
    return SaliencyFolder(None, tmp_path / "masks"), tmp_path / "maps"


def test_one_process_and_several_give_the_same_bits(saliency: tuple[SaliencyFolder, Path]) -> None:
    dataset, maps = saliency
    predictions, seen = open_predictions(maps, dataset), []
    here = score_dataset(dataset, predictions, TokenCutSaliency())
    there = score_dataset(dataset, predictions, TokenCutSaliency(), processes=2, on_items=seen.append)
    assert here.compute() == there.compute()
    assert here.item_scores() == there.item_scores()
    assert sum(seen) == 7
    by_hand = TokenCutSaliency()
    for i in range(7):
        annotation = dataset.annotation(i)
        by_hand.update(dataset.items[i], np.asarray(Image.open(maps / f"{i}.png")), annotation)
    assert here.compute() == by_hand.compute()


def test_the_given_metric_stays_empty_and_only_the_chosen_items_are_scored(saliency: tuple[SaliencyFolder, Path]) -> None:
    dataset, maps = saliency
    metric = TokenCutSaliency()
    scored = score_dataset(dataset, open_predictions(maps, dataset), metric, [4, 2])
    assert list(scored.item_scores()) == ["2.png", "4.png"]
    assert metric.item_scores() == {}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_item_that_cannot_be_scored_is_named(saliency: tuple[SaliencyFolder, Path], processes: int) -> None:
    dataset, maps = saliency
    Image.fromarray(np.zeros((9, 12), dtype=np.uint8)).save(maps / "3.png")
    with pytest.raises(
        ValueError, match=r"^3.png: the map has 12x9 pixels, the annotation 11x9; predict in original pixels$"
    ):
        score_dataset(dataset, open_predictions(maps, dataset), TokenCutSaliency(), processes=processes)


def test_a_metric_of_another_kind_and_a_wrong_number_of_processes_are_rejected(
    saliency: tuple[SaliencyFolder, Path],
) -> None:
    dataset, maps = saliency
    with pytest.raises(ValueError, match="saliency has annotations of kind 'saliency', CorLoc scores 'objects'"):
        score_dataset(dataset, open_predictions(maps, dataset), CorLoc())
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        score_dataset(dataset, open_predictions(maps, dataset), TokenCutSaliency(), processes=0)


def test_davis_results_give_the_official_numbers_through_files(test_data: Path) -> None:
    dataset = Davis(test_data / "davis")
    predictions = open_predictions(test_data / "davis" / "results" / "unsupervised" / "rvos", dataset)
    scores = score_dataset(dataset, predictions, DavisScore("unsupervised"), processes=None).compute()
    assert scores["J_mean"] == pytest.approx(0.781091, abs=1e-6)
    assert scores["F_mean"] == pytest.approx(0.822770, abs=1e-6)
    assert scores["J&F"] == pytest.approx(0.801930, abs=1e-6)
