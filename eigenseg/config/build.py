"""From a composed configuration to the objects that it names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn, optim

from eigenseg.config.suited import without_table
from eigenseg.config.trust import CONVERT, PARTIAL, TARGET, check_targets, find_target
from eigenseg.data.datasets.base import Dataset
from eigenseg.data.metric import Metric
from eigenseg.data.preprocess import Preprocess
from eigenseg.data.results.base import Writer
from eigenseg.discovery.backbones.base import Backbone
from eigenseg.kinds import check_backbone, check_built, needs_backbone
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
    return build_group(config, "method")


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
    for group in ("method", "postprocess", "backbone"):  # nothing is built before all of it is trusted
        check_targets(_plain_node(config, group), config.allow_targets, group)
    # The method first: its mistakes cost nothing, the backbone's weights may take a minute.
    method = build_method(config) if method is None else method
    refiner = None if config.postprocess is None else build_group(config, "postprocess")
    base = getattr(method, "base", None)
    check_backbone(type(method if base is None else base).__name__, needs_backbone(method), config.backbone)
    return PredictorParts(
        backbone=None if config.backbone is None else build_group(config, "backbone"),
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
    key, nodes = "output.writers", OmegaConf.to_container(config.output.writers, resolve=True)
    check_targets(nodes, config.allow_targets, key)
    writers = build(nodes, config.allow_targets, key)
    for writer in writers:
        check_built(key, writer)
    return list(writers)


def build_dataset(config: DictConfig) -> Dataset:
    """Build the dataset; its files are looked for.

    Raises:
        ValueError: if there is none, or one of its settings is missing.
        FileNotFoundError: if a file is missing.
    """
    if config.dataset is None:
        raise ValueError("dataset is missing; choose one, such as dataset=voc2007 dataset.root=VOCdevkit/VOC2007")
    return _build_dataset(config, "dataset")


def _build_dataset(config: DictConfig, group: str) -> Dataset:
    missing = sorted(OmegaConf.missing_keys(config[group]))
    if missing:
        check_targets(OmegaConf.to_container(config[group]), config.allow_targets, group)
        module = find_target(config[group][TARGET], config.allow_targets, group).__module__
        raise ValueError(
            f"{missing[0]} is missing; say where it lies, {missing[0]}=PATH "
            f"(the layout, and where to get the data: python -m pydoc {module})"
        )
    dataset: Dataset = build_group(config, group)
    return dataset


def build_metric(config: DictConfig) -> Metric:
    """Build what scores the predictions.

    Raises:
        ValueError: if there is none, or its constructor rejects a setting.
    """
    if config.evaluation is None:
        raise ValueError("evaluation is missing, and the dataset names none; choose one, such as evaluation=corloc")
    metric: Metric = build_group(config, "evaluation")
    return metric


def build_validation(config: DictConfig) -> Dataset | None:
    """Build the dataset that is scored during training; None if there is none.

    Raises:
        ValueError: if one of its settings is missing, or it is no dataset.
        FileNotFoundError: if a file is missing.
    """
    return None if config.validation is None else _build_dataset(config, "validation")


def build_optimizer(config: DictConfig) -> Callable[[list[dict[str, Any]]], optim.Optimizer]:
    """Build what makes the optimizer of parameter groups.

    Raises:
        ValueError: if it is no optimizer of torch, or its arguments are rejected.
    """
    node = _plain_node(config, "optimizer")
    check_targets(node, config.allow_targets, "optimizer")
    maker = find_target(node[TARGET], config.allow_targets, "optimizer") if TARGET in node else None
    if not (inspect.isclass(maker) and issubclass(maker, optim.Optimizer)):
        raise ValueError("optimizer must name a class of torch.optim by _target_, such as optimizer=adamw")
    made: functools.partial[optim.Optimizer] = build({**node, PARTIAL: True}, config.allow_targets, "optimizer")
    made([nn.Parameter(torch.zeros(1))])  # its own checks of its numbers, before anything is loaded
    return made


def build_group(config: DictConfig, group: str) -> Any:
    """Build what a group of the configuration holds.

    Raises:
        ValueError: if a ``_target_`` is not trusted, a constructor rejects its arguments, or something else is built.
        FileNotFoundError: if a file is missing.
    """
    node = _plain_node(config, group)
    check_targets(node, config.allow_targets, group)
    thing = build(node, config.allow_targets, group)
    check_built(group, thing)
    return thing


def build(node: Any, allowed: Sequence[str] = (), key: str = "method") -> Any:
    """Build a node and what it is made of, innermost first; a constructor's own error comes out as it was raised.

    Hydra's ``instantiate`` is not used: it would resolve interpolations once more, after the check of the targets.

    Args:
        node: plain, or a part of a composed configuration.
        allowed: what a ``_target_`` may name besides, as in ``check_targets``.
        key: of the node.

    Raises:
        ValueError, OSError: from a constructor, or if a node's arguments are not those of its class.
    """
    node = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if isinstance(node, list):
        return [build(child, allowed, f"{key}[{i}]") for i, child in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    values = {
        name: build(value, allowed, f"{key}.{name}")
        for name, value in node.items()
        if name not in (TARGET, PARTIAL, CONVERT)
    }
    if TARGET not in node:
        return values
    maker = find_target(node[TARGET], allowed, key)
    partial = bool(node.get(PARTIAL, False))
    _check_arguments(maker, values, key, partial)
    try:
        return functools.partial(maker, **values) if partial else maker(**values)
    except (ValueError, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{key}: {getattr(maker, '__name__', maker)} cannot be built: {reason}") from error


def _check_arguments(maker: Callable[..., Any], values: Mapping[str, Any], key: str, partial: bool) -> None:
    """Raise if a class does not take what its yaml gives it."""
    try:
        known = inspect.signature(maker).parameters
    except ValueError:  # some classes written in C do not tell
        return
    name = getattr(maker, "__name__", str(maker))
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    unknown = [argument for argument in values if argument not in known]
    if unknown:
        raise ValueError(
            f"{key}: {name} takes no {', '.join(unknown)}, only {', '.join(known) or 'nothing'}; to use another class "
            f"choose its yaml ({key}=NAME), which brings its own settings"
        )
    for argument, value in values.items():
        if known[argument].annotation in (bool, "bool") and not isinstance(value, bool):
            raise ValueError(f"{key}.{argument} must be true or false, got {value!r}")
    lacking = [argument for argument, one in known.items() if one.default is one.empty and argument not in values]
    if (
        lacking
        and not partial
        and not any(known[argument].kind is inspect.Parameter.VAR_POSITIONAL for argument in lacking)
    ):
        raise ValueError(f"{key}: {name} needs {', '.join(lacking)}")
    gaps = [argument for argument, value in values.items() if isinstance(value, str) and value == "???"]
    if gaps:
        raise ValueError(f"{key}.{gaps[0]} is missing; set it, {key}.{gaps[0]}=VALUE")


def _plain_node(config: DictConfig, group: str) -> Any:
    node = without_table(config) if group == "backbone" else config[group]
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
