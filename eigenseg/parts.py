"""The parts of predictors joined, and results streamed: what predictors of images and of clips share."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, TypeVar

import torch

from eigenseg.data.preprocess import Preprocess
from eigenseg.data.stages import Outcome
from eigenseg.discovery.backbones.base import Backbone
from eigenseg.discovery.extractor import FeatureExtractor
from eigenseg.discovery.method import Method
from eigenseg.discovery.predicting import FeaturePredictor, ImageModel, ImagePredictor, ModelPredictor
from eigenseg.kinds import check_image_method

logger = logging.getLogger(__name__)
T = TypeVar("T")


def join_image_parts(
    backbone: Backbone | None, method: Method | ImageModel, preprocess: Preprocess | None, device: torch.device
) -> tuple[ImagePredictor, FeatureExtractor | None]:
    """An image predictor of a backbone and a method, or of a model that brings its own features.

    Args:
        backbone, method, preprocess: as in ``Predictor``.
        device: where to compute.

    Returns:
        The predictor, and the extractor that it uses, if any.

    Raises:
        ValueError: if the parts do not fit together.
    """
    check_image_method(method, backbone)
    if isinstance(method, ImageModel):
        return ModelPredictor(method.to(device)), None
    assert backbone is not None
    extractor = FeatureExtractor(backbone, preprocess, device, method.preprocess)
    return FeaturePredictor(extractor, method), extractor


def provenances(**parts: Any) -> dict[str, Mapping[str, Any]]:
    """What every part says of itself: class and revision, and what its ``provenance`` adds, such as weights.

    ``revision`` is an integer attribute of a class or solver, raised when its results change; 1 if absent.

    Args:
        parts: by name; None is left out. The method within a method is added as ``base``, and the solver of either.
    """
    named = {**parts, "base": getattr(parts.get("method"), "base", None)}
    named["solver"] = next((part.solver for part in named.values() if getattr(part, "solver", None) is not None), None)
    return {name: _provenance(part) for name, part in named.items() if part is not None}


def stream_results(outcomes: Generator[Outcome[Any, T], None, None], errors: str) -> Iterator[tuple[str, T]]:
    """(path, result) of every source; an error is raised, or logged and skipped."""
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.output is not None:
                yield str(outcome.item.path), outcome.output
            elif errors == "raise" and outcome.error is not None:
                raise outcome.error
            else:
                logger.warning("%s skipped: %s", outcome.item.path, outcome.error)


def _provenance(part: Any) -> dict[str, Any]:
    own = part.provenance() if hasattr(part, "provenance") else {}
    maker = getattr(part, "func", part)  # solvers are functions, with settings bound by functools.partial
    maker = maker if hasattr(maker, "__qualname__") else type(part)
    return {"class": f"{maker.__module__}.{maker.__qualname__}", "revision": getattr(maker, "revision", 1), **own}
