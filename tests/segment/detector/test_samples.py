"""Training samples against scenes drawn by hand, and labels that cannot be trained on."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toy_scenes import SIDE, read_scenes, scene, write_scenes

from eigenseg.data.datasets import SaliencyFolder
from eigenseg.data.rle import encode_masks
from eigenseg.segment.detector import Recipe
from eigenseg.segment.detector.samples import DetectionSamples, fitted_size

PLAIN = Recipe(sizes=(SIDE,), copy_paste=0, flip=0)


def brute_boxes(masks: Any) -> list[list[float]]:
    boxes = []
    for mask in np.asarray(masks):
        ys, xs = np.nonzero(mask)
        boxes.append([float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)])
    return boxes


@pytest.fixture
def labels(tmp_path: Path) -> dict[str, Any]:
    return write_scenes(tmp_path, 4)


def item(samples: DetectionSamples, index: int = 0, seed: int = 0) -> dict[str, Any]:
    return samples.item(index, np.random.default_rng(seed))


def test_a_plain_sample_is_the_image_with_its_labels(labels: dict[str, Any], tmp_path: Path) -> None:
    samples = DetectionSamples(read_scenes(tmp_path), PLAIN, 200)
    image, masks = scene(2)
    sample = item(samples, 2)
    assert (len(samples), sample["name"]) == (4, "2.png")
    np.testing.assert_array_equal(sample["pixels"].numpy(), image.transpose(2, 0, 1))
    np.testing.assert_array_equal(sample["masks"].numpy(), masks)
    assert sample["boxes"].tolist() == brute_boxes(masks)
    assert sample["scores"].tolist() == [1, 1]


def test_scores_of_the_labels_are_the_targets_if_the_recipe_says_so(labels: dict[str, Any], tmp_path: Path) -> None:
    samples = DetectionSamples(read_scenes(tmp_path), Recipe(sizes=(SIDE,), copy_paste=0, soft_targets=True), 200)
    assert item(samples)["scores"].tolist() == [1, 0.5]


def test_a_flip_mirrors_pixels_masks_and_boxes(labels: dict[str, Any], tmp_path: Path) -> None:
    samples = DetectionSamples(read_scenes(tmp_path), Recipe(sizes=(SIDE,), copy_paste=0, flip=1), 200)
    image, masks = scene(0)
    sample = item(samples)
    np.testing.assert_array_equal(sample["pixels"].numpy(), image[:, ::-1].transpose(2, 0, 1))
    assert sample["boxes"].tolist() == brute_boxes(masks[:, :, ::-1])


def test_resizing_scales_masks_and_boxes_with_the_image(labels: dict[str, Any], tmp_path: Path) -> None:
    samples = DetectionSamples(read_scenes(tmp_path), Recipe(sizes=(2 * SIDE,), copy_paste=0, flip=0), 500)
    _, masks = scene(1)
    sample = item(samples, 1)
    np.testing.assert_array_equal(sample["masks"].numpy(), masks.repeat(2, axis=1).repeat(2, axis=2))
    assert sample["boxes"].tolist() == [[2 * side for side in box] for box in brute_boxes(masks)]


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (300, 1200), (7, 9), (96, 96)])
def test_sizes_keep_the_aspect_ratio_within_both_limits(size: tuple[int, int]) -> None:
    height, width = fitted_size(size, 100, 180)
    assert min(height, width) == 100 or max(height, width) == 180
    assert min(height, width) <= 100
    assert max(height, width) <= 180
    assert height / width == pytest.approx(size[0] / size[1], rel=0.02)


def test_a_sample_is_a_function_of_its_index_and_generator(labels: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe(sizes=(64, 96, 128))
    one, other = (DetectionSamples(read_scenes(tmp_path), recipe, 200) for _ in range(2))
    shapes = set()
    for seed in range(20):
        first, _, again = item(one, 1, seed), item(one, 2, seed + 1), item(other, 1, seed)
        assert all(torch.equal(first[name], again[name]) for name in ("pixels", "masks", "boxes", "scores"))
        assert first["boxes"].tolist() == brute_boxes(first["masks"])
        shapes.add(tuple(first["pixels"].shape))
    assert shapes == {(3, 64, 64), (3, 96, 96), (3, 128, 128)}


def test_pasted_objects_are_another_images(labels: dict[str, Any], tmp_path: Path) -> None:
    # Only the last image has labels of score 0.5, so scores tell where an object comes from.
    for entry in labels["annotations"]:
        entry["score"] = 0.5 if entry["image_id"] == 4 else 1.0
    two = {**labels, "annotations": [entry for entry in labels["annotations"] if entry["image_id"] in (1, 4)]}
    recipe = Recipe(sizes=(SIDE,), flip=0, soft_targets=True)
    samples = DetectionSamples(read_scenes(tmp_path, two), recipe, 200)
    pasted = [(item(samples, 0, seed)["scores"] == 0.5).sum().item() for seed in range(30)]
    assert set(pasted) == {0, 1}  # of its two objects one, unless it would cover another
    assert sum(pasted) > 15
    assert set(item(samples, 1, 0)["scores"].tolist()) <= {0.5, 1.0}


def test_a_batch_holds_what_torchvisions_detectors_take(labels: dict[str, Any], tmp_path: Path) -> None:
    samples = DetectionSamples(read_scenes(tmp_path), PLAIN, 200)
    batch = samples.collate([item(samples, 3), item(samples, 0)])
    assert batch["names"] == ["3.png", "0.png"]
    assert [target["labels"].tolist() for target in batch["targets"]] == [[1, 1], [1, 1]]
    assert batch["targets"][0]["boxes"].tolist() == brute_boxes(scene(3)[1])


def test_all_categories_are_one(labels: dict[str, Any], tmp_path: Path) -> None:
    labels["categories"] = [{"id": 7, "name": "box"}, {"id": 3, "name": "disc"}]
    for entry in labels["annotations"]:
        entry["category_id"] = 7 if entry["id"] % 2 else 3
    samples = DetectionSamples(read_scenes(tmp_path, labels), PLAIN, 200)
    assert samples.collate([item(samples)])["targets"][0]["labels"].tolist() == [1, 1]
    labels["annotations"][0]["category_id"] = 9
    with pytest.raises(ValueError, match="annotation 1 has the unknown category 9"):
        read_scenes(tmp_path, labels)


def test_images_without_labels_crowds_and_masks_without_pixels_are_left_out_and_counted(
    labels: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = dict(encode_masks(np.zeros((1, SIDE, SIDE), dtype=bool))[0])
    labels["annotations"][0] |= {"segmentation": nothing, "bbox": [0, 0, 0, 0], "area": 0}
    labels["annotations"][2]["iscrowd"] = 1
    labels["annotations"] = [entry for entry in labels["annotations"] if entry["image_id"] != 3]
    labels["annotations"][4]["segmentation"] = labels["annotations"][5]["segmentation"] = nothing
    with caplog.at_level(logging.INFO):
        samples = DetectionSamples(read_scenes(tmp_path, labels), PLAIN, 200)
    assert "2 of 4 images without objects are left out, so are 4 crowd regions and masks without a pixel" in caplog.text
    assert [samples.dataset.items[i] for i in samples.indices] == ["0.png", "1.png"]
    assert [item(samples, i)["boxes"].tolist() for i in (0, 1)] == [brute_boxes(scene(i)[1])[1:] for i in (0, 1)]


def test_labels_of_missing_images_are_refused(labels: dict[str, Any], tmp_path: Path) -> None:
    orphaned = copy.deepcopy(labels)
    orphaned["annotations"][3]["image_id"] = 99
    with pytest.raises(ValueError, match="1 annotations are of images that it does not list, such as annotation 4"):
        DetectionSamples(read_scenes(tmp_path, orphaned), PLAIN, 200)
    (tmp_path / "photos" / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 4 images are missing, the first is .*2\.png"):
        DetectionSamples(read_scenes(tmp_path), PLAIN, 200)


def test_labels_without_any_object_are_refused(labels: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no object in 4 images, so there is nothing to train on"):
        DetectionSamples(read_scenes(tmp_path, {**labels, "annotations": []}), PLAIN, 200)


def test_scores_beyond_one_are_refused(labels: dict[str, Any], tmp_path: Path) -> None:
    labels["annotations"][0]["score"] = 7
    with pytest.raises(ValueError, match=r"'0\.png' has scores outside of \[0, 1\]: \[7\.0, 0\.5\]"):
        DetectionSamples(read_scenes(tmp_path, labels), PLAIN, 200)
    labels["annotations"][0]["score"] = "high"
    with pytest.raises(ValueError, match='score must be a number, got "high"'):
        DetectionSamples(read_scenes(tmp_path, labels), PLAIN, 200)


def test_an_image_of_another_size_than_its_labels_is_refused(labels: dict[str, Any], tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE + 1)).save(tmp_path / "photos" / "1.png")
    samples = DetectionSamples(read_scenes(tmp_path), PLAIN, 200)
    with pytest.raises(ValueError, match=r"the labels of '1\.png' are of size \[96, 96\] \(H, W\), the image \[97, 96\]"):
        item(samples, 1)


def test_boxes_alone_become_rectangles_and_are_refused_where_masks_are_needed(
    labels: dict[str, Any], tmp_path: Path
) -> None:
    labels["annotations"][0]["bbox"] = [3.4, 5.6, 10.2, 20.1]  # xywh
    boxes_only = read_scenes(tmp_path, labels, masks=False)
    with pytest.raises(ValueError, match=r"'0\.png' has boxes without masks; set architecture\.mask_widths=\[\]"):
        DetectionSamples(boxes_only, PLAIN, 200)
    sample = item(DetectionSamples(boxes_only, PLAIN, 200, masks=False))
    assert sample["boxes"][0].tolist() == [3, 5, 14, 26]
    assert sample["masks"][0].sum() == 11 * 21


def test_a_dataset_without_objects_of_its_own_kind_is_refused(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 3)).save(tmp_path / folder / "a.png")
    dataset = SaliencyFolder(images=tmp_path / "images", masks=tmp_path / "masks")
    with pytest.raises(ValueError, match="a detector is trained on objects, .* has saliency annotations"):
        DetectionSamples(dataset, PLAIN, 200)
