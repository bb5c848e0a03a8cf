"""The kinds of things that a configuration puts together, told apart by what they offer."""

from __future__ import annotations

import inspect
from typing import Any

from eigenseg.data.datasets.base import Dataset
from eigenseg.data.metric import Metric
from eigenseg.data.results.base import Writer
from eigenseg.discovery.backbones.base import Backbone
from eigenseg.discovery.method import Method
from eigenseg.discovery.predicting import ImageModel
from eigenseg.segment.refine.base import Refiner
from eigenseg.video.method import VideoMethod, check_needs

# What each group of the configuration holds: one of these.
PROTOCOLS: dict[str, tuple[type, ...]] = {
    "backbone": (Backbone,),
    "method": (Method, ImageModel, VideoMethod),
    "postprocess": (Refiner,),
    "dataset": (Dataset,),
    "validation": (Dataset,),
    "evaluation": (Metric,),
    "output.writers": (Writer,),
}
_RULES = {
    "backbone": "no backbone: it must be callable and have {}",
    "method": "no method: an image method is callable and has preprocess and needs_attention, an image model has prepare, "
    "infer, to and provenance, a video method is callable and has needs",
    "postprocess": "no refiner: it must be callable and have to(device); one that works on masks derives from "
    "eigenseg.segment.refine.MaskRefiner",
    "dataset": "no dataset: it must have {}",
    "validation": "no dataset: it must have {}",
    "evaluation": "no metric: it must have {}",
    "output.writers": "no writer; it must derive from eigenseg.data.results.Writer",
}


def fits(cls: type, group: str) -> bool:
    """Whether a class has the functions of a group's protocol, with their arguments; nothing is built.

    Example:
        >>> from eigenseg import TokenCut
        >>> fits(TokenCut, "method"), fits(TokenCut, "postprocess")
        (True, False)
    """
    if group == "output.writers":
        return issubclass(cls, Writer)
    return any(
        all(_arguments(cls, name)[: len(arguments)] == arguments for name, arguments in _functions(protocol).items())
        for protocol in PROTOCOLS[group]
    )


def misfit(group: str, cls: type) -> str:
    """Why a class, or what was built from it, is not what a group holds; one sentence."""
    members = [name for name in _members(PROTOCOLS[group][0]) if name != "__call__"]
    return f"{cls.__name__} is {_RULES[group].format(', '.join(members))}"


def check_built(group: str, thing: Any) -> None:
    """Raise if an object is not what a group of the configuration holds.

    Raises:
        ValueError: naming its class and what the group holds.
    """
    if group == "method":
        check_method(thing)
    elif group == "postprocess":
        check_refiner(thing)
    elif group == "output.writers":
        if not isinstance(thing, Writer):
            raise ValueError(misfit(group, type(thing)))
    elif not all(hasattr(thing, name) for name in _members(PROTOCOLS[group][0])):
        raise ValueError(misfit(group, type(thing)))


def check_method(method: Any) -> None:
    """Raise if an object is neither an image method, nor an image model, nor a video method.

    Raises:
        ValueError: naming its class and the three interfaces.
    """
    if isinstance(method, VideoMethod):
        check_needs(method)
    elif not isinstance(method, ImageModel) and not all(hasattr(method, name) for name in _members(Method)):
        raise ValueError(misfit("method", type(method)))


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
        raise ValueError(misfit("postprocess", type(refiner)))


def _members(protocol: type) -> list[str]:
    """Names of a protocol's functions and attributes, in their order."""
    names = [name for base in protocol.__mro__[::-1] for name in (*inspect.get_annotations(base), *vars(base))]
    return [name for name in dict.fromkeys(names) if name == "__call__" or (name[0] != "_" and name not in dir(object))]


def _functions(protocol: type) -> dict[str, list[str]]:
    return {name: _arguments(protocol, name) for name in _members(protocol) if _function(protocol, name) is not None}


def _arguments(cls: type, name: str) -> list[str]:
    """Names of a method's arguments, ``self`` among them; none if there is no such method."""
    function = _function(cls, name)
    return [] if function is None else list(inspect.signature(function).parameters)


def _function(cls: type, name: str) -> Any:
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return found if inspect.isfunction(found) else None
