"""Images to objects: a backbone and a method, or a model of its own, and the steps between them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, TypeVar

from eigenseg.clip_predictor import ClipPredictor
from eigenseg.data.checks import check_choice
from eigenseg.data.clips import Clip
from eigenseg.data.features import FeatureGrid
from eigenseg.data.images import ImageLike, decoding_bytes
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.data.sources import VIDEO_SUFFIXES, find_images
from eigenseg.data.stages import Batching, Outcome, Stages, StageTimes, run
from eigenseg.discovery.backbones.base import Backbone
from eigenseg.discovery.method import Method
from eigenseg.discovery.predicting import ImageModel
from eigenseg.parts import join_image_parts, provenances, stream_results
from eigenseg.runtime import choose_device
from eigenseg.segment.refine.base import Refiner
from eigenseg.video.frames import refining
from eigenseg.video.method import VideoMethod
from eigenseg.video.per_frame import PerFrame

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Predictor:
    """Finds objects in images.

    Args:
        backbone: encodes images as tokens; None for a model that brings its own features.
        method: finds objects on tokens, or an ``ImageModel``.
        preprocess: the user's settings; fields left ``None`` come from the backbone, then the method, then the defaults.
        device: ``"auto"`` (CUDA if there is one, else CPU; logged), or anything ``torch.device`` knows.
        refiner: refines the masks; None leaves them on the patches.

    Raises:
        ValueError: if the device is not available, the method needs attention that the backbone does not have, a backbone
            is missing or not used, or the method is one of videos.

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
        backbone: Backbone | None,
        method: Method | ImageModel,
        preprocess: Preprocess | None = None,
        device: str = "auto",
        refiner: Refiner | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.backbone, self.method = backbone, method
        self.image_predictor, self.extractor = join_image_parts(backbone, method, preprocess, self.device)
        self.refiner = None if refiner is None else refiner.to(self.device)

    @classmethod
    def from_config(
        cls,
        method: str | os.PathLike[str] | None = None,
        *,
        backbone: str | os.PathLike[str] | None = None,
        device: str = "auto",
        overrides: Sequence[str] | Mapping[str, Any] = (),
        config_dir: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Build a predictor of images or of clips, as the method is one: ``build_predictor``, see there."""
        return build_predictor(method, backbone=backbone, device=device, overrides=overrides, config_dir=config_dir)

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing in force; empty where a model brings its own."""
        return Preprocess() if self.extractor is None else self.extractor.preprocess

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
        stages = self.stages(lambda image: image, lambda image, prepared, instances, milliseconds: instances)
        with closing(run(images, stages, Batching(max(1, len(images))))) as outcomes:
            return [_output(outcome) for outcome in outcomes]

    def stream(
        self,
        source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        batch_size: int = 8,
        workers: int = 2,
        errors: Literal["raise", "skip"] = "raise",
        times: StageTimes | None = None,
    ) -> Iterator[tuple[str, Instances]]:
        """Find objects in many images without holding them all.

        Args:
            source: a file, a folder with its subfolders, a glob pattern, a .txt list, or any iterable of paths, which is
                taken as a whole before the first image is read.
            batch_size: images computed together.
            workers: threads that read images ahead.
            errors: for an image that cannot be processed: ``"raise"`` its error, or ``"skip"`` it and log why.
            times: collects how long every stage was busy.

        Yields:
            (path, instances), in the order of the sorted paths.

        Raises:
            FileNotFoundError, ValueError: at once if there is nothing to read, later for a broken image.
        """
        check_choice("errors", errors, ("raise", "skip"))
        stages = self.stages(lambda one: one.path, lambda one, prepared, instances, milliseconds: instances)
        outcomes = run(find_images(source), stages, Batching(batch_size, workers), times)
        return stream_results(outcomes, errors)

    def features(self, image: ImageLike, attention: bool = False) -> FeatureGrid:
        """Extract the features of one image.

        Args:
            image: path, PIL image, or (H, W, 3) uint8 RGB array.
            attention: include the CLS attention, where the backbone has it.

        Returns:
            A batch of one, on the predictor's device.

        Raises:
            ValueError: if the method is a model that brings its own features.
        """
        if self.extractor is None:
            raise ValueError(f"{type(self.method).__name__} has no backbone whose features could be extracted")
        return self.extractor.extract([self.extractor.prepare(image)], attention)

    def stages(
        self, read: Callable[[Any], ImageLike], finish: Callable[[Any, Any, Instances, float], T]
    ) -> Stages[Any, Any, Instances, T]:
        """The way of an image through the predictor.

        Args:
            read: the image of an item; a path is read off the main thread.
            finish: see ``Stages``.
        """

        def prepare(item: Any) -> Any:
            image = read(item)
            self._check_image(image)
            return self.image_predictor.prepare(image)

        def measure(item: Any) -> int:
            image = read(item)
            return decoding_bytes(image) if isinstance(image, (str, os.PathLike)) else 0

        refine = None if self.refiner is None else refining(self.refiner)
        return Stages(prepare, self.image_predictor.infer, finish, refine, measure)

    def provenance(self) -> Mapping[str, Any]:
        """What was built: name, and weights with their sha256, of backbone, method and refiner."""
        return provenances(backbone=self.backbone, method=self.method, refiner=self.refiner)

    def _check_image(self, image: Any) -> None:
        name = type(self.method).__name__
        if isinstance(image, Clip):
            raise TypeError(f"{name} works on images, got clip {image.name!r}; {_CLIPS}")
        if getattr(image, "ndim", 0) == 4:
            shape = tuple(image.shape)
            raise TypeError(
                f"{name} works on images, got an array {shape}; predict takes several, and {_CLIPS} (Clip.from_array)"
            )
        if isinstance(image, (str, os.PathLike)) and Path(image).suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"{name} works on images, {os.fspath(image)} is a video; {_CLIPS}")


_CLIPS = "method=per_frame method.base=NAME follows the objects of an image method through a clip"


def _output(outcome: Outcome[Any, Instances]) -> Instances:
    if outcome.output is None:
        assert outcome.error is not None
        raise outcome.error
    return outcome.output


def build_predictor(
    method: str | os.PathLike[str] | None = None,
    *,
    backbone: str | os.PathLike[str] | None = None,
    device: str = "auto",
    overrides: Sequence[str] | Mapping[str, Any] = (),
    config_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Build a predictor from the configurations that the command line uses.

    Args:
        method, backbone: a name (``"maskcut"``) or the path of a yaml; None: what an experiment among the overrides
            says, else tokencut and dino_vits16.
        device: ``"auto"`` (CUDA if there is one, else CPU; logged), or anything ``torch.device`` knows.
        overrides: as on the command line, ``["method.tau=0.3", "backbone.weights=dino.pth"]``, or a dict,
            ``{"method.tau": 0.3, "backbone": {"weights": "dino.pth"}, "postprocess": None}``. A yaml may name code of your
            own where ``allow_targets`` says so here.
        config_dir: folder with your own ``method/`` and ``backbone/`` yamls, searched besides the shipped ones.

    Returns:
        A ``Predictor`` for a method or model of images, a ``ClipPredictor`` for a video method.

    Raises:
        ValueError: if a name or an override is unknown (the message lists the known names), or parts do not fit together.
        FileNotFoundError: if a yaml or the weights are missing.

    Example:
        >>> predictor = build_predictor("per_frame", backbone="color_texture", overrides=["method.base=lost"])
        >>> type(predictor).__name__, type(predictor.method.base).__name__
        ('ClipPredictor', 'LOST')
    """
    from eigenseg.config.build import build_parts
    from eigenseg.config.compose import compose
    from eigenseg.config.overrides import as_overrides

    settings = [*as_overrides(overrides), *as_overrides({"runtime.device": device})]
    config = compose(method, backbone, settings, config_dir)
    return make_predictor(**build_parts(config))


def make_predictor(
    backbone: Backbone | None,
    method: Any,
    preprocess: Preprocess | None = None,
    device: str = "auto",
    refiner: Refiner | None = None,
    batching: Batching | None = None,
    clips: bool = False,
) -> Predictor | ClipPredictor:
    """Join the parts of a predictor as the method asks.

    Args:
        backbone, method, preprocess, device, refiner: as in ``Predictor`` and ``ClipPredictor``.
        batching: of a clip's frames.
        clips: an image method is wanted for clips: its objects are linked over time, as ``per_frame`` does.
    """
    if isinstance(method, VideoMethod):
        return ClipPredictor(backbone, method, preprocess, device, refiner, batching)
    if clips:
        return ClipPredictor(backbone, PerFrame(method), preprocess, device, refiner, batching)
    return Predictor(backbone, method, preprocess, device, refiner)
