"""The kinds of methods, told apart by what they offer."""

from __future__ import annotations

from typing import Any

from eigenseg.discovery.predicting import ImageModel
from eigenseg.video.method import VideoMethod, check_needs

_METHOD = ("__call__", "preprocess", "needs_attention")


def check_method(method: Any) -> None:
    """Raise if an object is neither an image method, nor an image model, nor a video method.

    Raises:
        ValueError: naming its class and the three interfaces.
    """
    if isinstance(method, VideoMethod):
        check_needs(method)
    elif not isinstance(method, ImageModel) and not all(hasattr(method, name) for name in _METHOD):
        raise ValueError(
            f"{type(method).__name__} is no method: an image method is callable and has preprocess and needs_attention, an "
            "image model has prepare, infer, to and provenance, a video method is callable and has needs"
        )


def check_image_method(method: Any, backbone: Any) -> None:
    """Raise if a method is not one of images, or does not go with this backbone.

    Raises:
        ValueError: naming the method, and what would fit.
    """
    check_method(method)
    name = type(method).__name__
    if isinstance(method, VideoMethod):
        raise ValueError(f"{name} works on clips: use ClipPredictor, or build_predictor, which chooses by the method")
    check_backbone(name, not isinstance(method, ImageModel), backbone)


def check_backbone(name: str, needed: bool, backbone: Any) -> None:
    """Raise if a backbone is missing, or given to a method that has its own features or needs none.

    Raises:
        ValueError: naming the method and the setting.
    """
    if needed and backbone is None:
        raise ValueError(f"method {name} works on features and backbone is null; choose one, such as backbone=dino_vits16")
    if not needed and backbone is not None:
        raise ValueError(
            f"method {name} needs no backbone; set backbone=null (in its yaml: override /backbone@_global_.backbone: null)"
        )


def needs_backbone(method: Any) -> bool:
    """Whether a method works on the features of a backbone; a video method does if the frames that it asks for do."""
    if isinstance(method, VideoMethod):
        return method.needs == "features" or (method.needs == "predictor" and needs_backbone(getattr(method, "base", None)))
    return not isinstance(method, ImageModel)


def check_refiner(refiner: Any) -> None:
    """Raise if an object is no refiner; None is none.

    Raises:
        ValueError: naming its class and the interface.
    """
    if refiner is not None and not (callable(refiner) and hasattr(refiner, "to")):
        raise ValueError(
            f"{type(refiner).__name__} is no refiner: it must be callable and have to(device); one that works on masks "
            "derives from eigenseg.segment.refine.MaskRefiner"
        )
