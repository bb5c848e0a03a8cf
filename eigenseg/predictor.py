"""Images to objects: a backbone, a method, and the steps between them."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

import torch

from eigenseg.data.checks import check_choice
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.images import ImageArray, ImageLike, as_rgb
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import NATIVE, Preprocess, plan_geometry, prepare_image
from eigenseg.data.sources import find_images
from eigenseg.discovery.backbones.base import Backbone
from eigenseg.discovery.method import Method
from eigenseg.pipeline import predict_sources
from eigenseg.runtime import choose_device
from eigenseg.segment.refine.apply import refine_instances
from eigenseg.segment.refine.base import Refiner

logger = logging.getLogger(__name__)


class Predictor:
    """Finds objects in images.

    Args:
        backbone: encodes images as tokens.
        method: finds objects on tokens.
        preprocess: the user's settings; fields left ``None`` come from the backbone, then the method, then the defaults.
        device: ``"auto"`` (CUDA if there is one, else CPU; logged), or anything ``torch.device`` knows.
        refiner: refines the masks; None leaves them on the patches.

    Raises:
        ValueError: if the device is not available, or the method needs attention that the backbone does not have.

    Example:
        >>> import numpy as np
        >>> from eigenseg.discovery import ColorTexture, TokenCut
        >>> image = np.full((120, 160, 3), (30, 60, 150), dtype=np.uint8)
        >>> image[40:80, 60:100] = (220, 180, 40)
        >>> instances = Predictor(ColorTexture(), TokenCut(), device="cpu")(image)
        >>> len(instances), bool(instances.masks[0][60, 80])
        (1, True)
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        preprocess: Preprocess | None = None,
        device: str = "auto",
        refiner: Refiner | None = None,
    ) -> None:
        if method.needs_attention and not backbone.has_attention:
            raise ValueError(
                f"method {type(method).__name__} needs CLS attention, which backbone {type(backbone).__name__} "
                "does not have; choose a ViT, such as dino_vits16"
            )
        self.device = choose_device(device)
        self.backbone = backbone.to(self.device)
        self.method, self.refiner = method, refiner
        self.preprocess = (preprocess or Preprocess()).over(backbone.preprocess.over(method.preprocess.over(NATIVE)))

    @classmethod
    def from_config(
        cls,
        method: str | os.PathLike[str] | None = None,
        *,
        backbone: str | os.PathLike[str] | None = None,
        device: str = "auto",
        overrides: Sequence[str] = (),
        config_dir: str | os.PathLike[str] | None = None,
    ) -> Predictor:
        """Build a predictor from the configurations that the command line uses.

        Args:
            method, backbone: a name (``"maskcut"``) or the path of a yaml; None: what an experiment among the overrides
                says, else tokencut and dino_vits16.
            device: as above.
            overrides: as on the command line, such as ``["method.tau=0.3", "backbone.weights=dino.pth"]``.
            config_dir: folder with your own ``method/`` and ``backbone/`` yamls, searched besides the shipped ones.

        Raises:
            ValueError: if a name or an override is unknown; the message lists the known names.
            FileNotFoundError: if a yaml or the weights are missing.
        """
        from eigenseg.config.build import build_parts
        from eigenseg.config.compose import compose

        # Quoted: a device such as cuda:1 is not a plain word in Hydra's grammar.
        config = compose(method, backbone, [*overrides, f"runtime.device='{device}'"], config_dir)
        return cls(**build_parts(config))

    def __call__(self, image: ImageLike) -> Instances:
        """Find the objects of one image.

        Args:
            image: path, PIL image, or (H, W, 3) uint8 RGB array.
        """
        return self.predict([image])[0]

    def predict(self, images: Sequence[ImageLike]) -> list[Instances]:
        """Find the objects of several images of any sizes; those with equal grids are computed together.

        Args:
            images: paths, PIL images, or (H, W, 3) uint8 RGB arrays.

        Raises:
            TypeError, ValueError, FileNotFoundError: if an image cannot be read or does not fit the limits.
        """
        if isinstance(images, (str, os.PathLike)):
            raise TypeError("predict takes several images; for one call the predictor itself, for a folder use stream")
        arrays = [as_rgb(image) for image in images]
        geometries = [self._plan(array) for array in arrays]
        results: dict[int, Instances] = {}
        batches: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, (array, geometry) in enumerate(zip(arrays, geometries, strict=True)):
            if (array == array[0, 0]).all():
                reason = "no object: the image has a single color"
                results[i] = Instances.empty(geometry.image_size, reason, geometry=geometry)
            else:
                batches[geometry.input_size].append(i)
        for members in batches.values():
            batch = [arrays[i] for i in members]
            features = self._extract(batch, [geometries[i] for i in members], self.method.needs_attention)
            results.update(zip(members, self.method(features, batch), strict=True))
        instances = [results[i] for i in range(len(arrays))]
        return instances if self.refiner is None else refine_instances(self.refiner, arrays, instances, self.device)

    def stream(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        batch_size: int = 8,
        workers: int = 2,
        errors: Literal["raise", "skip"] = "raise",
    ) -> Iterator[tuple[str, Instances]]:
        """Find objects in many images without holding them all.

        Args:
            source: a file, a folder with its subfolders, a glob pattern, a .txt list, or a sequence of paths.
            batch_size: images computed together.
            workers: threads that decode images ahead.
            errors: for an image that cannot be processed: ``"raise"`` its error, or ``"skip"`` it and log why.

        Yields:
            (path, instances), in the order of the sorted paths.

        Raises:
            FileNotFoundError, ValueError: at once if there is nothing to read, later for a broken image.
        """
        check_choice("errors", errors, ("raise", "skip"))
        outcomes = predict_sources(self.predict, find_images(source), batch_size, workers)

        def results() -> Iterator[tuple[str, Instances]]:
            for outcome in outcomes:
                if outcome.instances is not None:
                    yield str(outcome.source.path), outcome.instances
                elif errors == "raise" and outcome.error is not None:
                    raise outcome.error
                else:
                    logger.warning("%s skipped: %s", outcome.source.path, outcome.error)

        return results()

    def features(self, image: ImageLike, attention: bool = False) -> FeatureGrid:
        """Extract the features of one image.

        Args:
            image: path, PIL image, or (H, W, 3) uint8 RGB array.
            attention: include the CLS attention, where the backbone has it.

        Returns:
            A batch of one, on the predictor's device.
        """
        array = as_rgb(image)
        return self._extract([array], [self._plan(array)], attention)

    def _plan(self, image: ImageArray) -> Geometry:
        return plan_geometry((image.shape[0], image.shape[1]), self.backbone.patch_size, self.preprocess)

    def _extract(self, images: Sequence[ImageArray], geometries: Sequence[Geometry], attention: bool) -> FeatureGrid:
        pixels = [
            prepare_image(image, geometry, self.backbone.mean, self.backbone.std)
            for image, geometry in zip(images, geometries, strict=True)
        ]
        return self.backbone(torch.stack(pixels).to(self.device), geometries, attention)
