"""What every dataset promises: a new reader gets these tests by a tree in ``dataset_trees.TREES``.

Datasets that draw their items (``dataset_trees.GENERATED``) promise the same but for what known files hold.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_trees import (
    EXPECTED,
    EXPECTED_GENERATED,
    FRAMES,
    GENERATED,
    HEIGHT,
    TREES,
    WIDTH,
    boxes,
    color_of,
    labels,
)
from omegaconf import OmegaConf
from tiny_files import assert_same_after_pickling

import eigenseg.data.datasets as readers
from eigenseg.config.build import build_metric
from eigenseg.config.compose import compose
from eigenseg.data import RleMasks, encode_masks, read_image
from eigenseg.data.datasets import Dataset, ObjectAnnotation, VideoAnnotation, check_images
from eigenseg.data.detections import Detections
from eigenseg.report.cases import draw_case

CONFIGS = Path(__file__).parents[1] / "configs" / "dataset"
ALL = {**TREES, **GENERATED}
ITEMS = {**{name: items for name, (items, _) in EXPECTED.items()}, **EXPECTED_GENERATED}
every_dataset = pytest.mark.parametrize("name", ALL)
every_reader = pytest.mark.parametrize("name", TREES)


@pytest.fixture
def dataset(name: str, tmp_path: Path) -> Dataset:
    made: Dataset = ALL[name](tmp_path)
    return made


def as_prediction(dataset: Dataset, index: int) -> Any:
    """The ground truth in the form of a prediction."""
    annotation = dataset.annotation(index)
    if isinstance(annotation, ObjectAnnotation):
        return Detections(annotation.boxes, np.ones(len(annotation)), annotation.labels, annotation.masks)
    return annotation.labels.astype(np.int32) if isinstance(annotation, VideoAnnotation) else annotation


def test_every_reader_has_a_tree() -> None:
    classes = {name for name in readers.__all__ if hasattr(getattr(readers, name), "annotation")}
    classes -= {"Dataset", "UnlabeledImages"}  # the latter is what input= makes for training, without a yaml
    named = {
        str(OmegaConf.load(CONFIGS / f"{name}.yaml")["_target_"]).rpartition(".")[2]
        for name in {name.split()[0] for name in ALL}
    }
    assert named == classes


@every_dataset
def test_items_are_unique_and_in_a_fixed_order(name: str, dataset: Dataset, tmp_path: Path) -> None:
    assert list(dataset.items) == list(ALL[name](tmp_path).items) == ITEMS[name]
    assert dataset.title


@every_dataset
def test_images_exist_and_bear_their_items_name(name: str, dataset: Dataset) -> None:
    check_images(dataset)
    for i, item in enumerate(dataset.items):
        sources = dataset.images(i)
        for source in sources:
            image = read_image(source.path)
            assert image.shape == (HEIGHT, WIDTH, 3)
            assert name in GENERATED or (image == color_of(source.path)).all()
            assert source.path.stem == source.name.rpartition("/")[2].rpartition(".")[0]
        if dataset.kind == "video":
            assert len(sources) == FRAMES
            assert all(source.name.startswith(f"{item}/") for source in sources)
        else:
            assert [source.name for source in sources] == [item]


@every_reader
def test_annotations_are_those_of_the_files(name: str, dataset: Dataset) -> None:
    for i in range(2):
        annotation: Any = dataset.annotation(i)
        if dataset.kind == "objects":
            expected = boxes(i)[:1] if name == "cub" else boxes(i)  # one bird per image
            assert annotation.boxes.tolist() == [list(box) for box in expected]
            assert annotation.image_size == (None if name == "cub" else (HEIGHT, WIDTH))
            named = [dataset.classes[label] for label in annotation.labels]
            assert named == (str(EXPECTED[name][1]).split() * 2)[: len(named)]
            for k, mask in enumerate(annotation.masks or ()):
                np.testing.assert_array_equal(mask, labels(i) == k + 1)
        elif dataset.kind == "video":
            np.testing.assert_array_equal(annotation.labels, [labels(i, t) for t in range(FRAMES)])
            assert list(annotation.frames) == [source.name for source in dataset.images(i)]
        else:
            np.testing.assert_array_equal(annotation > 0, labels(i) > 0)


@every_dataset
def test_a_worker_process_sees_the_same_dataset(name: str, dataset: Dataset) -> None:
    assert_same_after_pickling(dataset)


@every_dataset
def test_the_ground_truth_as_prediction_gets_the_best_score(name: str, dataset: Dataset) -> None:
    metric = build_metric(compose(overrides=f"dataset={name}".split(), command="evaluate"))
    assert metric.kind == dataset.kind
    for i, item in enumerate(dataset.items):
        metric.update(item, as_prediction(dataset, i), dataset.annotation(i))
    best = 100 if metric.main in ("corloc", "gt_known_loc") else 1
    assert metric.compute()[metric.main] == pytest.approx(best, abs=1e-12)


@every_dataset
@pytest.mark.parametrize("with_masks", [False, True])
def test_the_report_draws_an_item_in_the_size_of_its_image(name: str, dataset: Dataset, with_masks: bool) -> None:
    class GroundTruth:
        def read(self, item: str, annotation: Any) -> Any:
            prediction = as_prediction(dataset, list(dataset.items).index(item))
            if not isinstance(prediction, Detections):
                return prediction
            masks = labels(0) == np.arange(1, len(prediction) + 1)[:, None, None]
            return replace(prediction, masks=RleMasks(encode_masks(masks), (HEIGHT, WIDTH)) if with_masks else None)

    panels = draw_case(dataset, GroundTruth(), 0)  # type: ignore[arg-type]
    assert len(panels) >= 2
    for panel in panels:
        assert panel.image.shape == (HEIGHT, WIDTH, 3)


@every_reader
def test_an_empty_folder_is_named_with_the_source_of_the_dataset(name: str, dataset: Dataset, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    reader: Any = type(dataset)
    arguments = {"images": "photos", "masks": "masks"} if name == "saliency" else {}
    with pytest.raises(FileNotFoundError, match=rf" needs {tmp_path}.*not there; set dataset\.root, or get it from "):
        reader(root=tmp_path, **arguments)
