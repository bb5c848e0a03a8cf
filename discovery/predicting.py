"""Predictors of images: what runs on any thread, and what runs on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch

from eigenseg.data.images import ImageArray, ImageLike, as_rgb
from eigenseg.data.instances import Instances
from eigenseg.data.stages import Prepared
from eigenseg.discovery.checks import facet_error
from eigenseg.discovery.extractor import FeatureExtractor, FittedImage
from eigenseg.discovery.method import Method


class PreparedImage(Prepared, Protocol):
    """An image that is ready for the device."""

    @property
    def image(self) -> ImageArray:
        """(H, W, 3) uint8 RGB in original pixels, for refiners and overlays."""
        ...


@dataclass(frozen=True)
class PlainImage:
    """An image as it is, (H, W, 3) uint8 RGB, for models that take any sizes in one batch."""

    image: ImageArray

    @property
    def bucket(self) -> None:
        """All share one bucket."""
        return

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return self.image.nbytes

    @classmethod
    def of(cls, image: ImageLike) -> PlainImage:
        """Read an image: path, PIL image, or (H, W, 3) uint8 RGB array."""
        return cls(as_rgb(image))


@runtime_checkable
class ImagePredictor(Protocol):
    """Images to instances in two stages. ``FeaturePredictor`` and every ``ImageModel`` are one."""

    def prepare(self, image: ImageLike) -> Any:
        """Read and prepare an image, a ``PreparedImage``; called on any thread.

        Args:
            image: path, PIL image, or (H, W, 3) uint8 RGB array.
        """
        ...

    def infer(self, batch: Sequence[Any]) -> list[Instances]:
        """Objects of prepared images of one bucket, in order; called on one thread, the device's."""
        ...


@runtime_checkable
class ImageModel(ImagePredictor, Protocol):
    """A model with its own features: a detector, SAM, a language model. A new one is one file and one yaml."""

    def to(self, device: torch.device) -> ImageModel:
        """Move to a device; returns itself."""
        ...

    def provenance(self) -> Mapping[str, Any]:
        """Name, origin and sha256 of the weights as json values, for ``run.json``."""
        ...


@dataclass(frozen=True)
class FeatureImage(FittedImage):
    """A fitted image, and whether it has a single color."""

    uniform: bool


class FeaturePredictor:
    """Features and a method on them.

    Args:
        extractor: from images to features.
        method: finds objects on features.

    Raises:
        ValueError: if the method needs attention that the backbone does not have.
    """

    def __init__(self, extractor: FeatureExtractor, method: Method) -> None:
        check_attention(method, extractor)
        self.extractor, self.method = extractor, method

    def prepare(self, image: ImageLike) -> FeatureImage:
        """Read and fit an image; any thread."""
        fitted = self.extractor.prepare(image)
        return FeatureImage(fitted.image, fitted.pixels, fitted.geometry, _has_one_color(fitted.image))

    def infer(self, batch: Sequence[FeatureImage]) -> list[Instances]:
        """Objects of images with equal input sizes; an image of a single color is not shown to the backbone."""
        several = [one for one in batch if not one.uniform]
        found: Iterator[Instances] = iter([])
        if several:
            features = self.extractor.extract(several, self.method.needs_attention)
            images = [one.image for one in several]
            found = iter(check_results(self.method, self.method(features, images), images))
        return [_uniform(one) if one.uniform else next(found) for one in batch]


class ModelPredictor:
    """An ``ImageModel`` whose results are checked.

    Args:
        model: finds objects in images.
    """

    def __init__(self, model: ImageModel) -> None:
        self.model = model

    def prepare(self, image: ImageLike) -> Any:
        """As the model does."""
        return self.model.prepare(image)

    def infer(self, batch: Sequence[Any]) -> list[Instances]:
        """Objects of prepared images."""
        return check_results(self.model, self.model.infer(batch), [one.image for one in batch])


def check_results(maker: object, results: Any, images: Sequence[ImageArray]) -> list[Instances]:
    """Raise if these are not the results of these images; an empty one without a reason gets one.

    Args:
        maker: the method, model or refiner that they come from.
        results: what it returned.
        images: (H, W, 3) each.

    Raises:
        TypeError: if it is no list or tuple of ``Instances``.
        ValueError: if their number or an image size does not fit.
    """
    name = type(maker).__name__
    expected = f"it must return a list with one Instances per image ({len(images)})"
    if not isinstance(results, (list, tuple)):
        raise TypeError(f"{name} returned {type(results).__name__}; {expected}")
    strange = next((type(one).__name__ for one in results if not isinstance(one, Instances)), None)
    if strange is not None:
        raise TypeError(f"{name} returned a list with {strange} in it; {expected}")
    if len(results) != len(images):
        raise ValueError(f"{name} returned {len(results)} results; {expected}")
    for one, image in zip(results, images, strict=True):
        if tuple(one.image_size) != image.shape[:2]:
            raise ValueError(
                f"{name} returned masks of {list(one.image_size)} for an image of {list(image.shape[:2])} (H, W); masks "
                "have the size of the image that was given, and geometry.masks_to_image brings patches there"
            )
    return [one if len(one) or one.reason else _with_reason(one, name) for one in results]


def _with_reason(empty: Instances, name: str) -> Instances:
    return replace(empty, metadata={**empty.metadata, "reason": f"no object; {name} gave no reason"})


def check_attention(method: Any, extractor: FeatureExtractor) -> None:
    """Raise if a method needs attention that the backbone does not have, or another facet (``needs_facet``) than it gives.

    Raises:
        ValueError: naming both, and what to choose.
    """
    needed, given = getattr(method, "needs_facet", None), getattr(extractor.backbone, "facet", None)
    if needed is not None and given is not None and needed != given:
        raise ValueError(facet_error(type(method).__name__, needed, given))
    if method.needs_attention and not extractor.backbone.has_attention:
        raise ValueError(
            f"method {type(method).__name__} needs CLS attention, which backbone {type(extractor.backbone).__name__} "
            "does not have; choose a ViT, such as dino_vits16"
        )


def _has_one_color(image: ImageArray) -> bool:
    # Row by row, because nearly every image answers within its first rows, and a comparison of all needs a copy.
    return all((row == image[0, 0]).all() for row in image)


def _uniform(one: FeatureImage) -> Instances:
    reason = "no object: the image has a single color"
    return Instances.empty(one.geometry.image_size, reason, geometry=one.geometry)
