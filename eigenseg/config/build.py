"""From a composed configuration to the objects that it names."""

from __future__ import annotations

from typing import Any, TypedDict

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from eigenseg.config.suited import without_table
from eigenseg.config.trust import TRUSTED, check_targets
from eigenseg.data.datasets.base import Dataset
from eigenseg.data.metric import Metric
from eigenseg.data.preprocess import Preprocess
from eigenseg.data.results.base import Writer
from eigenseg.discovery.backbones.base import Backbone
from eigenseg.kinds import check_backbone, check_method, check_refiner, needs_backbone
from eigenseg.segment.refine.base import Refiner


class PredictorParts(TypedDict):
    """Arguments of ``Predictor`` and ``ClipPredictor``."""

    backbone: Backbone | None
    method: Any
    preprocess: Preprocess
    device: str
    refiner: Refiner | None


def build_method(config: DictConfig) -> Any:
    """Build the method alone; it tells whether images or clips are wanted, and costs nothing beside a backbone.

    Raises:
        ValueError: if a ``_target_`` is not trusted, its arguments are rejected, or it is no method.
        FileNotFoundError: if weights are missing.
    """
    _check_targets(config, "method")
    method = build(config.method)
    check_method(method)
    return method


def build_parts(config: DictConfig, method: Any = None) -> PredictorParts:
    """Build what a predictor is made of.

    Args:
        config: of a command.
        method: the configured method, if it was built before.

    Raises:
        ValueError: if a ``_target_`` is not trusted, a constructor rejects its arguments, or something else is built than
            its group holds.
        FileNotFoundError: if weights are missing.
    """
    _check_targets(config, "backbone", "postprocess")
    # The method first: its mistakes cost nothing, the backbone's weights may take a minute.
    method = build_method(config) if method is None else method
    refiner = None if config.postprocess is None else build(config.postprocess)
    check_refiner(refiner)
    base = getattr(method, "base", None)
    check_backbone(type(method if base is None else base).__name__, needs_backbone(method), config.backbone)
    return PredictorParts(
        backbone=None if config.backbone is None else build(without_table(config)),
        method=method,
        preprocess=Preprocess(**OmegaConf.to_container(config.preprocess)),  # type: ignore[arg-type]
        device=config.runtime.device,
        refiner=refiner,
    )


def build_writers(config: DictConfig) -> list[Writer]:
    """Build the writers that the configuration adds to the shipped ones.

    Raises:
        ValueError: if a ``_target_`` is not trusted, a constructor rejects its arguments, or something else is built.
    """
    nodes: Any = OmegaConf.to_container(config.output.writers, resolve=True)
    check_targets(nodes, (*TRUSTED, *config.allow_targets), "output.writers")
    writers = [build(node) for node in nodes]
    for writer in writers:
        if not isinstance(writer, Writer):
            raise ValueError(f"{type(writer).__name__} is no writer; it must derive from eigenseg.data.results.Writer")
    return writers


def build_dataset(config: DictConfig) -> Dataset:
    """Build the dataset; its files are looked for.

    Raises:
        ValueError: if there is none, or one of its settings is missing.
        FileNotFoundError: if a file is missing.
    """
    if config.dataset is None:
        raise ValueError("dataset is missing; choose one, such as dataset=voc2007 dataset.root=VOCdevkit/VOC2007")
    check_targets(OmegaConf.to_container(config.dataset), (*TRUSTED, *config.allow_targets), "dataset")
    missing = sorted(OmegaConf.missing_keys(config.dataset))
    if missing:
        module = get_object(config.dataset._target_).__module__
        raise ValueError(
            f"{missing[0]} is missing; say where it lies, {missing[0]}=PATH "
            f"(the layout, and where to get the data: python -m pydoc {module})"
        )
    dataset: Dataset = build(config.dataset)
    return dataset


def build_metric(config: DictConfig) -> Metric:
    """Build what scores the predictions.

    Raises:
        ValueError: if there is none, or its constructor rejects a setting.
    """
    if config.evaluation is None:
        raise ValueError("evaluation is missing, and the dataset names none; choose one, such as evaluation=corloc")
    check_targets(OmegaConf.to_container(config.evaluation), (*TRUSTED, *config.allow_targets), "evaluation")
    metric: Metric = build(config.evaluation)
    return metric


def _check_targets(config: DictConfig, *groups: str) -> None:
    for group in groups:
        if config[group] is not None:
            check_targets(OmegaConf.to_container(config[group], resolve=True), (*TRUSTED, *config.allow_targets), group)


def build(node: Any) -> Any:
    """Instantiate a leaf; a constructor's own error comes out as it was raised."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (ValueError, FileNotFoundError)):
            raise cause from None
        raise ValueError(" ".join(str(error).split())) from error
