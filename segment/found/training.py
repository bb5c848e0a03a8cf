"""FOUND's training: the head learns the complement of the background, then its own predictions (Siméoni et al., CVPR 2023).

Data flow: crops -> keys and attention of the frozen backbone -> background -> its complement, moved to the edges of the
image -> targets of the head's upsampled logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eigenseg.data.datasets.base import Dataset, check_images
from eigenseg.data.features import FeatureGrid
from eigenseg.data.images import read_image
from eigenseg.data.sources import ImageSource
from eigenseg.discovery.extractor import FeatureExtractor, FittedImage
from eigenseg.discovery.method import Padding, valid_tokens
from eigenseg.segment.found.augmentation import random_crop
from eigenseg.segment.found.background import background
from eigenseg.segment.found.head import FoundHead
from eigenseg.segment.found.targets import solver_targets


@dataclass(frozen=True)
class FoundRecipe:
    """The published recipe of FOUND's training.

    The first numbers are those of the losses and the augmentation; the others are what ``trainer`` and ``optimizer`` take
    where the command says nothing.

    Args:
        warmup: steps with the background's complement as target; the head's own prediction follows.
        weight_refined: of the loss against the refined prediction.
        weight_own: of the loss against the prediction itself.
        min_iou: a refined mask replaces its mask above this IoU.
        crop: side of the crops in pixels.
        min_scale, max_scale: of the images before the crop.
        blur: probability of a Gaussian blur.
        max_steps, batch_size, lr: of loop and optimizer.
        schedule, every, gamma: of the learning rate, multiplied by ``gamma`` every ``every`` steps.

    Raises:
        ValueError: if a number is out of range.
    """

    warmup: int = 100
    weight_refined: float = 1.5
    weight_own: float = 4.0
    min_iou: float = 0.5
    crop: int = 224
    min_scale: float = 0.1
    max_scale: float = 3.0
    blur: float = 0.5
    max_steps: int = 500
    batch_size: int = 50
    lr: float = 0.05
    schedule: str = "steps"
    every: int = 50
    gamma: float = 0.95

    def __post_init__(self) -> None:
        for name in ("warmup", "weight_refined", "weight_own"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"recipe.{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("min_iou", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"recipe.{name} must be in [0, 1], got {getattr(self, name)}")
        if self.crop < 1:
            raise ValueError(f"recipe.crop must be at least 1 pixel, got {self.crop}")
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(
                f"recipe.min_scale and max_scale must be above 0 and in order, got {self.min_scale} and {self.max_scale}"
            )


class FoundTraining(nn.Module):
    """FOUND's head as a ``Trainable``.

    With p the head's logits, upsampled bilinearly to the pixels of the crop, m = [p > 0], b the object mask (the complement
    of the background), BS the bilateral solver (``solver_targets``) and BCE the mean binary cross-entropy,

        loss = w_refined BCE(p, BS(m)) + BCE(p, BS(b))        in the first ``warmup`` steps
        loss = w_refined BCE(p, BS(m)) + w_own BCE(p, m)      afterwards

    The paper does not say whether the loss is taken on patches or pixels; pixels are where inference thresholds.

    Args:
        recipe: numbers of the training.
        threshold, epsilon, weighted: of ``background``.
        padding: as in ``FOUND``; with ``"drop"`` pixels of padding have no loss.
        make_method: from the features' facet and a head to the method that uses it.
        seed: of the initial head.
    """

    steps: Tensor

    def __init__(
        self,
        recipe: FoundRecipe,
        threshold: float,
        epsilon: float,
        weighted: bool,
        padding: Padding,
        make_method: Callable[[str, FoundHead], Any],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.recipe, self.padding, self.make_method, self.seed = recipe, padding, make_method, seed
        self.settings = (threshold, epsilon, weighted)
        self.head: FoundHead
        self.register_buffer("steps", torch.tensor(0))

    def samples(self, dataset: Dataset, extractor: FeatureExtractor | None) -> FoundSamples:
        """Random crops of the dataset's images; annotations are not read.

        Raises:
            ValueError: if there is no backbone, or it has no attention.
            FileNotFoundError: if an image is missing.
        """
        if extractor is None:
            raise ValueError("FOUND trains on features, and backbone is null; choose a ViT, such as backbone=dino_vits8")
        if not extractor.backbone.has_attention:
            name = type(extractor.backbone).__name__
            raise ValueError(f"FOUND's training needs CLS attention, which backbone {name} does not have; choose a ViT")
        check_images(dataset)
        self._extractor = extractor
        samples = FoundSamples(dataset, self.recipe, extractor.backbone.patch_size)
        features = self._features([samples.blank()])
        self._facet, width = features.kind, features.tokens.shape[2]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.head = FoundHead(width)
        return samples

    def loss(self, batch: Sequence[FittedImage]) -> dict[str, Tensor]:
        """Named losses of a batch of crops of one size, see above."""
        features = self._features(batch)
        images = [crop.pixels.permute(1, 2, 0).contiguous().to(features.tokens.device) for crop in batch]
        logits = self.head(features.tokens).view(len(batch), *features.grid)
        size = batch[0].geometry.input_size
        pixels = F.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        own = pixels.detach() > 0
        weight = self._visible(batch, features).to(pixels)
        first = int(self.steps) < self.recipe.warmup
        masks = torch.cat([own, self._objects(features)]) if first else own
        refined = solver_targets(images * (2 if first else 1), masks, self.recipe.min_iou)
        losses = {"refined": self.recipe.weight_refined * _entropy(pixels, refined[: len(batch)], weight)}
        if first:
            return {**losses, "background": _entropy(pixels, refined[len(batch) :], weight)}
        return {**losses, "own": self.recipe.weight_own * _entropy(pixels, own, weight)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The head's weight and bias."""
        return [{"params": list(self.head.parameters())}]

    def after_step(self, step: int) -> None:
        """Count the steps, which decide the targets."""
        self.steps.fill_(step)

    def export(self) -> Mapping[str, Tensor]:
        """The head, as ``load_head`` reads it."""
        return self.head.state_dict()

    def inference(self) -> Any:
        """FOUND with the head as it is now."""
        head = FoundHead(self.head.width).to(self.head.decoder.weight.device)
        head.load_state_dict(self.head.state_dict())
        return self.make_method(self._facet, head.eval().requires_grad_(False))

    def _features(self, batch: Sequence[FittedImage]) -> FeatureGrid:
        with torch.no_grad():
            return self._extractor.extract(batch, attention=True)

    def _objects(self, features: FeatureGrid) -> Tensor:
        """The complement of the background in pixels: (B, H, W) bool."""
        assert features.attention is not None
        valid = valid_tokens(features, self.padding)
        objects = ~background(features.attention, features.tokens, features.grid, *self.settings, valid).mask
        patch = features.geometries[0].patch_size
        return objects.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)

    def _visible(self, batch: Sequence[FittedImage], features: FeatureGrid) -> Tensor:
        """Pixels that have a loss: (B, H, W) bool."""
        visible = torch.ones(len(batch), *batch[0].geometry.input_size, dtype=torch.bool, device=features.tokens.device)
        if self.padding == "drop":
            for one, crop in zip(visible, batch, strict=True):
                rows, columns = crop.geometry.scaled_size
                one[rows:] = False
                one[:, columns:] = False
        return visible


class FoundSamples:
    """Random crops of images.

    Args:
        dataset: with the images.
        recipe: of the augmentation.
        patch_size: of the backbone in pixels.
    """

    def __init__(self, dataset: Dataset, recipe: FoundRecipe, patch_size: int) -> None:
        self.recipe, self.patch_size = recipe, patch_size
        self.sources: list[ImageSource] = [source for i in range(len(dataset.items)) for source in dataset.images(i)]

    def __len__(self) -> int:
        return len(self.sources)

    def name(self, index: int) -> str:
        """The image's name."""
        return self.sources[index].name

    def item(self, index: int, rng: np.random.Generator) -> FittedImage:
        """A crop of an image."""
        recipe = self.recipe
        scales = (recipe.min_scale, recipe.max_scale)
        return random_crop(read_image(self.sources[index].path), rng, recipe.crop, self.patch_size, scales, recipe.blur)

    def collate(self, items: Sequence[FittedImage]) -> list[FittedImage]:
        """The crops; all have one size."""
        return list(items)

    def blank(self) -> FittedImage:
        """A crop of a gray image, to find out the features' width."""
        side = self.recipe.crop
        gray = np.full((side, side, 3), 128, dtype=np.uint8)
        return random_crop(gray, np.random.default_rng(0), side, self.patch_size, (1.0, 1.0), 0.0)


def _entropy(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Mean binary cross-entropy over the pixels that have a weight."""
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits), weight, reduction="sum") / weight.sum()
