"""The detector as an image model and as a trainable: losses against torchvision's, results in pixels of the image."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection.roi_heads import RoIHeads
from toy_scenes import SIDE, read_scenes, scene, write_scenes

from eigenseg.discovery.backbones.weights import load_vit
from eigenseg.segment.detector import Architecture, ClassAgnosticDetector, Detections, Recipe

SMALL = Architecture("resnet18", "group", 64, 128, (32, 32), 32, (200, 100), (8, 16, 32, 64, 96))
VIT = Architecture("vit_tiny_patch16_224", "group", 32, 32, (32,), 16, (50, 20), (8, 16, 32, 64, 96))
PLAIN = Recipe(sizes=(SIDE,), copy_paste=0, flip=0, drop_iou=None)
pytestmark = pytest.mark.usefixtures("one_thread")


def detector(weights: Any = "random", recipe: Recipe = PLAIN, **settings: Any) -> ClassAgnosticDetector:
    settings = {"architecture": SMALL, "size": SIDE, "max_size": 2 * SIDE, **settings}
    return ClassAgnosticDetector(weights, recipe=recipe, **settings)


def batch_of(root: Path, model: ClassAgnosticDetector, count: int = 4) -> dict[str, Any]:
    if not (root / "photos").exists():
        write_scenes(root, 8)
    samples = model.samples(read_scenes(root))
    return samples.collate([samples.item(i, np.random.default_rng(i)) for i in range(count)])


def train(model: ClassAgnosticDetector, batches: Callable[[int], Any], steps: int) -> list[float]:
    """A loop of a few lines over the interface of trainables."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1e-3)
    totals = []
    for step in range(steps):
        loss = torch.stack(list(model.loss(batches(step)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_step(step)
        totals.append(loss.item())
    return totals


class Recorded(nn.Module):
    """Stands for a module, and keeps what it is called with."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.arguments = inner, ()

    def forward(self, *arguments: Any) -> Any:
        self.arguments = arguments
        return self.inner(*arguments)


def head_losses(model: ClassAgnosticDetector, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The heads' losses, and torchvision's on the same regions."""
    heads = model.model.roi_heads
    model.model.roi_heads = recorded = Recorded(heads)
    try:
        torch.manual_seed(0)
        model.loss(batch)
    finally:
        model.model.roi_heads = heads
    features, proposals, shapes, targets = recorded.arguments
    torch.manual_seed(1)
    _, ours = heads(features, list(proposals), shapes, targets)
    torch.manual_seed(1)
    _, theirs = RoIHeads.forward(heads, features, list(proposals), shapes, targets)
    return ours, {name.replace("loss_", ""): value for name, value in theirs.items()}


def test_without_droploss_and_scores_the_heads_losses_are_torchvisions(tmp_path: Path) -> None:
    model = detector()
    ours, theirs = head_losses(model, batch_of(tmp_path, model))
    for name, other in (("classification", "classifier"), ("box", "box_reg"), ("mask", "mask")):
        torch.testing.assert_close(ours[name], theirs[other], rtol=1e-5, atol=1e-7)
        assert ours[name] > 0


def test_droploss_takes_regions_off_the_classification_loss_alone(tmp_path: Path) -> None:
    model = detector()
    batch = batch_of(tmp_path, model)
    without, _ = head_losses(model, batch)
    model.model.roi_heads.drop_iou = 0.01
    some, _ = head_losses(model, batch)
    model.model.roi_heads.drop_iou = 1.0  # no IoU is larger
    none, _ = head_losses(model, batch)
    assert 0 < some["classification"] < without["classification"]
    assert none["classification"] == 0
    for one in (some, none):
        assert (one["box"], one["mask"]) == (without["box"], without["mask"])


def test_the_recipes_droploss_is_in_force_and_learns_nothing_from_images_without_labels(tmp_path: Path) -> None:
    model = detector(recipe=Recipe(sizes=(SIDE,), copy_paste=0))
    batch = batch_of(tmp_path, model, 2)
    for target in batch["targets"]:
        target |= {name: target[name][:0] for name in ("boxes", "labels", "masks", "scores")}
    losses = model.loss(batch)
    heads = [losses[name].item() for name in ("classification", "box", "mask")]
    assert heads == [0, 0, 0]
    assert losses["proposal_objectness"] > 0
    assert losses.keys() == {"classification", "box", "mask", "proposal_objectness", "proposal_box"}


def test_labels_of_half_the_score_give_half_the_box_and_mask_loss(tmp_path: Path) -> None:
    model = detector()
    batch = batch_of(tmp_path, model)
    whole, _ = head_losses(model, batch)
    for target in batch["targets"]:
        target["scores"] = torch.full_like(target["scores"], 0.5)
    half, _ = head_losses(model, batch)
    for name in ("box", "mask"):
        torch.testing.assert_close(half[name], whole[name] / 2)
    assert half["classification"] != whole["classification"]


@pytest.mark.parametrize("architecture", [SMALL, VIT], ids=["resnet", "vit"])
def test_the_loss_falls_on_eight_scenes(architecture: Architecture, tmp_path: Path) -> None:
    model = detector(architecture=architecture)
    batch = batch_of(tmp_path, model, 8)
    totals = train(model, lambda step: batch, 10)
    assert np.mean(totals[-3:]) < 0.8 * np.mean(totals[:3]), totals


def test_it_is_a_module_whose_state_is_all_that_training_changes(tmp_path: Path) -> None:
    model, other = detector(seed=1), detector(seed=2)
    batch = batch_of(tmp_path, model, 2)
    train(model, lambda step: batch, 1)
    other.load_state_dict(model.state_dict())
    image = scene(0)[0]
    (one,), (two,) = (each.inference().infer([each.prepare(image)]) for each in (model, other))
    assert one.equals(two)
    assert batch["names"] == [model.samples(read_scenes(tmp_path)).name(i) for i in range(2)]
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_a_trained_detector_finds_the_objects_of_scenes_that_it_has_not_seen(tmp_path: Path) -> None:
    model = detector(recipe=Recipe(sizes=(SIDE,), copy_scale=(0.5, 1.0)))
    write_scenes(tmp_path, 32)
    samples = model.samples(read_scenes(tmp_path))

    def batches(step: int) -> Any:
        rng = np.random.default_rng((0, step))
        return samples.collate([samples.item(int(i), rng) for i in rng.choice(len(samples), 4, replace=False)])

    train(model, batches, 150)
    found = []
    for seed in range(100, 110):
        image, masks = scene(seed)
        (result,) = model.infer([model.prepare(image)])
        ious = [max((mask & one).sum() / (mask | one).sum() for one in np.asarray(result.masks)[:2]) for mask in masks]
        found += [iou > 0.5 for iou in ious]
    assert np.mean(found) > 0.7, found


class Fixed(nn.Module):
    """Heads that detect the same in every image."""

    def __init__(self, **found: Tensor) -> None:
        super().__init__()
        self.found = found

    def forward(self, *_: Any) -> Any:
        return [self.found], {}


def detect(image_size: tuple[int, int], boxes: list[list[float]], masks: Tensor | None, size: int = 96) -> Any:
    model = detector(size=size)
    found = {"boxes": torch.tensor(boxes), "scores": torch.linspace(0.9, 0.5, len(boxes))}
    model.model.roi_heads = Fixed(**found, **({} if masks is None else {"masks": masks}))
    return model.infer([model.prepare(np.zeros((*image_size, 3), dtype=np.uint8))])[0]


def test_boxes_and_masks_are_in_pixels_of_the_image() -> None:
    # 48 x 64 pixels become 96 x 128; the lower half of the second mask is no object.
    soft = torch.ones(2, 1, 28, 28)
    soft[1, 0, 14:] = 0
    result = detect((48, 64), [[20.0, 10, 60, 50], [64, 32, 120, 88]], soft)
    assert result.boxes.tolist() == [[10, 5, 30, 25], [32, 16, 60, 44]]
    masks = np.zeros((2, 48, 64), dtype=bool)
    masks[0, 5:25, 10:30] = masks[1, 16:30, 32:60] = True
    np.testing.assert_array_equal(result.masks, masks)
    assert result.scores.tolist() == pytest.approx([0.9, 0.5])


def test_without_a_mask_head_the_box_is_the_mask() -> None:
    result = detect((48, 64), [[21.0, 10, 60, 50]], None)
    assert result.boxes.tolist() == [[10.5, 5, 30, 25]]
    expected = np.zeros((48, 64), dtype=bool)
    expected[5:25, 10:30] = True  # every pixel that the box touches
    np.testing.assert_array_equal(result.masks[0], expected)


def test_detections_whose_mask_is_empty_are_left_out_and_none_has_a_reason() -> None:
    soft = torch.zeros(2, 1, 28, 28)
    assert detect((48, 64), [[20.0, 10, 60, 50]] * 2, soft).reason == "no object: no detection with a mask scores above 0"
    soft[1] = 1
    result = detect((48, 64), [[20.0, 10, 60, 50]] * 2, soft)
    assert result.scores.tolist() == pytest.approx([0.5])


def test_many_masks_of_a_large_image_are_encoded_one_by_one() -> None:
    boxes = [[1.0, 1, 90, 90]] * 12
    result = detect((2400, 2400), boxes, torch.ones(12, 1, 28, 28))
    assert type(result.masks).__name__ == "RleMasks"
    # Interpolation rounds the corners.
    assert result.areas().tolist() == pytest.approx([(2250 - 25) ** 2] * 12, rel=1e-3)


def test_faster_rcnn_trains_and_detects_boxes(tmp_path: Path) -> None:
    boxes_only = Architecture("resnet18", "group", 32, 32, (), 16, (50, 20), (8, 16, 32, 64, 96))
    model = detector(architecture=boxes_only)
    losses = model.loss(batch_of(tmp_path, model, 1))
    assert "mask" not in losses
    (result,) = model.infer([model.prepare(scene(0)[0])])
    assert len(result)
    for mask, box in zip(np.asarray(result.masks), result.boxes, strict=True):
        assert mask.sum() == (np.ceil(box[2]) - np.floor(box[0])) * (np.ceil(box[3]) - np.floor(box[1]))


def test_exported_weights_give_the_same_results_and_are_named_with_their_hash(tmp_path: Path) -> None:
    model = detector(seed=5)
    train(model, lambda step: batch_of(tmp_path, model, 2), 2)
    save_file(dict(model.export()), tmp_path / "detector.safetensors")
    again = detector(tmp_path / "detector.safetensors")
    image = scene(3)[0]
    (one,), (other,), (fresh,) = (each.infer([each.prepare(image)]) for each in (model, again, detector()))
    assert one.equals(other)
    assert not one.equals(fresh)
    origin = again.provenance()["weights"]
    assert (origin["source"], len(origin["sha256"])) == (str(tmp_path / "detector.safetensors"), 64)


def test_random_weights_depend_on_the_seed_alone_and_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        one = detector(seed=3).export()
    assert torch.equal(torch.get_rng_state(), state)
    assert "random weights (seed 3)" in caplog.text
    torch.manual_seed(2)
    other, third = detector(seed=3).export(), detector(seed=4).export()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_weights_of_a_resnet_reach_the_trunk_without_its_classifier(tmp_path: Path) -> None:
    network = resnet18(weights=None)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "r.pth"
    )
    batch_norm = Architecture("resnet18", "batch", 32, 32, (32,), 16, (50, 20), (8, 16, 32, 64, 96))
    exported = detector(backbone_weights=tmp_path / "r.pth", architecture=batch_norm).export()
    kept = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    assert all(torch.equal(exported[f"backbone.body.{name}"], value) for name, value in kept.items())
    with pytest.raises(ValueError, match=r"backbone_weights: .*r\.pth does not fit .* 40 tensors are not expected"):
        detector(backbone_weights=tmp_path / "r.pth")  # group normalization has no running statistics


def test_weights_of_a_vit_reach_the_trunk_and_are_trained(tmp_path: Path) -> None:
    network, _ = load_vit(VIT.trunk, "random", seed=9)
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    model = detector(backbone_weights=tmp_path / "vit.safetensors", architecture=VIT)
    exported = model.export()
    assert all(torch.equal(exported[f"backbone.body.{name}"], value) for name, value in network.state_dict().items())
    sum(model.loss(batch_of(tmp_path, model, 1)).values(), torch.zeros(())).backward()
    assert model.model.backbone.body.patch_embed.proj.weight.grad.abs().sum() > 0
    small = Architecture("vit_small_patch16_224", "group", 32, 32, (32,), 16, (50, 20), (8, 16, 32, 64, 96))
    with pytest.raises(ValueError, match="^backbone_weights: .* does not fit vit_small"):
        detector(backbone_weights=tmp_path / "vit.safetensors", architecture=small)


def test_strides_of_a_vits_pyramid_are_4_to_32_whatever_its_patch() -> None:
    for trunk, first in (("vit_tiny_patch16_224", 4), ("vit_small_patch14_dinov2", 4), ("vit_small_patch8_224.dino", 2)):
        architecture = Architecture(trunk, "group", 32, 32, (), 16, (50, 20), (8, 16, 32, 64, 96))
        pyramid = detector(architecture=architecture).model.backbone.eval()
        with torch.no_grad():
            shapes = {name: tuple(level.shape[-2:]) for name, level in pyramid(torch.zeros(1, 3, 64, 96)).items()}
        sides = [(64 // stride, 96 // stride) for stride in (first, 2 * first, 4 * first, 8 * first)]
        assert [shapes[str(i)] for i in range(4)] == sides


def test_normalization_layers_are_not_decayed() -> None:
    model = detector()
    decayed, norms = model.parameter_groups()
    assert norms["weight_decay"] == 0
    assert all(parameter.ndim == 1 for parameter in norms["params"])
    counted = sum(len(list(m.parameters(recurse=False))) for m in model.model.modules() if isinstance(m, nn.GroupNorm))
    assert len(norms["params"]) == counted > 0
    assert len(decayed["params"]) + counted == len(list(model.model.parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": None}, "weights are missing: method.weights=detector.safetensors takes"),
        ({"weights": "no.safetensors"}, "weights: no such file no.safetensors"),
        ({"weights": "x.pth", "backbone_weights": "y.pth"}, "backbone_weights='y.pth' is used with weights='random' only"),
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_settings_are_refused_at_construction(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        detector(**settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Architecture(trunk="vgg16"), "architecture.trunk must be resnet18, .* got 'vgg16'"),
        (lambda: Architecture(norm="layer"), "architecture.norm must be 'batch', 'frozen' or 'group', got 'layer'"),  # type: ignore[arg-type]
        (lambda: Architecture(norm="group", channels=40), "a multiple of 32 with norm=group, got 40"),
        (lambda: Architecture(anchors=(8, 16)), r"architecture.anchors must be 5 integers, got \[8, 16\]"),
        (lambda: Detections(nms_iou=1.5), r"detections.nms_iou must be in \[0, 1\], got 1.5"),
        (lambda: Recipe(sizes=()), "recipe.sizes must be at least one length"),
        (lambda: Recipe(drop_iou=-1), r"recipe.drop_iou must be in \[0, 1\], got -1"),
        (lambda: Recipe(copy_scale=(1.0, 0.3)), r"recipe.copy_scale must be two numbers, the smaller one first"),
    ],
)
def test_wrong_numbers_are_refused_at_construction(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    tensors = dict(detector().export())
    save_file(tensors, tmp_path / "good.safetensors")
    name = "roi_heads.box_predictor.cls_score.bias"
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"weights: .*good\.safetensors does not fit the architecture: .* tensors are"):
        detector(tmp_path / "good.safetensors", architecture=VIT)
    with pytest.raises(ValueError, match=r"has values that are not finite \(roi_heads\.box_predictor\.cls_score\.bias\)"):
        detector(tmp_path / "nan.safetensors")
