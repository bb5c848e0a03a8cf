"""Configurations: what the yamls may say, how they are composed, and how objects are built from them.

This file and ``cli.py`` are the only ones that know Hydra; everything below takes plain arguments.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from eigenseg import schema
from eigenseg.data import Preprocess
from eigenseg.data.accumulate import Metric
from eigenseg.data.datasets import Dataset
from eigenseg.discovery import Backbone, Method
from eigenseg.segment.refine.base import Refiner

CONFIG_MODULE = "eigenseg.configs"
# Code that a yaml may name without asking; anything else could be any function on the machine.
TRUSTED = ("eigenseg", "torch", "torchvision", "timm")
schema.register()


def compose(
    method: str | os.PathLike[str] | None = None,
    backbone: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    config_dir: str | os.PathLike[str] | None = None,
    command: str = "extract",
) -> DictConfig:
    """Compose the configuration of a command outside a Hydra application, or inside another one without disturbing it.

    Args:
        method, backbone: a name, or the path of a yaml; None: what an experiment among the overrides says, else tokencut
            and dino_vits16.
        overrides: Hydra overrides.
        config_dir: a folder that is searched besides the shipped one.
        command: whose: extract or evaluate.

    Raises:
        FileNotFoundError: if a yaml or the folder is missing.
        ValueError: if a name or an override is unknown.
    """
    with contextlib.ExitStack() as stack:
        places = []
        if isinstance(overrides, str):
            raise TypeError(f"overrides must be a list of strings, got the string {overrides!r}")
        if config_dir is not None:
            if not Path(config_dir).is_dir():
                raise FileNotFoundError(f"config_dir: no such folder {os.fspath(config_dir)}")
            places.append(Path(config_dir).resolve())
        names = {}
        for group, choice in (("method", method), ("backbone", backbone)):
            if choice is None:
                continue
            names[group] = str(choice)
            if str(choice).endswith((".yaml", ".yml")):
                place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                names[group] = _place_yaml(Path(choice), place / group)
                places.append(place)
        search = ",".join(f"'file://{place}'" for place in places)
        chosen = [f"{group}='{name}'" for group, name in names.items()]
        stack.enter_context(_own_hydra())
        with readable_errors(command):
            return hydra_compose(command, overrides=[f"hydra.searchpath=[{search}]", *chosen, *overrides])


class PredictorParts(TypedDict):
    """Arguments of ``Predictor``."""

    backbone: Backbone
    method: Method
    preprocess: Preprocess
    device: str
    refiner: Refiner | None


def build_parts(config: DictConfig) -> PredictorParts:
    """Build what a ``Predictor`` is made of.

    Raises:
        ValueError: if a ``_target_`` is not trusted, or a constructor refuses its arguments.
        FileNotFoundError: if weights are missing.
    """
    allowed = (*TRUSTED, *config.allow_targets)
    for group in ("backbone", "method", "postprocess"):
        if config[group] is not None:
            check_targets(OmegaConf.to_container(config[group], resolve=True), allowed, group)
    # The method first: its mistakes cost nothing, the backbone's weights may take a minute.
    method, refiner = build(config.method), None if config.postprocess is None else build(config.postprocess)
    return PredictorParts(
        backbone=build(config.backbone),
        method=method,
        preprocess=Preprocess(**OmegaConf.to_container(config.preprocess)),  # type: ignore[arg-type]
        device=config.runtime.device,
        refiner=refiner,
    )


def build_dataset(config: DictConfig) -> Dataset:
    """Build the data set; its files are looked for.

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
        ValueError: if there is none, or its constructor refuses a setting.
    """
    if config.evaluation is None:
        raise ValueError("evaluation is missing, and the dataset names none; choose one, such as evaluation=corloc")
    check_targets(OmegaConf.to_container(config.evaluation), (*TRUSTED, *config.allow_targets), "evaluation")
    metric: Metric = build(config.evaluation)
    return metric


def choices() -> dict[str, str]:
    """Names of the yamls that were chosen on the command line (backbone, method, dataset...); empty outside of Hydra."""
    if not HydraConfig.initialized():
        return {}
    return {group: str(name) for group, name in HydraConfig.get().runtime.choices.items() if name and "/" not in group}


def given_settings() -> list[str]:
    """The settings of the command line as they were typed; empty outside of Hydra."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def build(node: Any) -> Any:
    """Instantiate a leaf; a constructor's own error comes out as it was raised."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (ValueError, FileNotFoundError)):
            raise cause from None
        raise ValueError(" ".join(str(error).split())) from error


def plain(config: DictConfig) -> dict[str, Any]:
    """All settings as dicts, lists and numbers, interpolations resolved; a missing one is None."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return {name: None if value == MISSING else value for name, value in settings.items()}


def job_folder(wanted: str | None) -> str | None:
    """Where this job writes: as wanted, or, in a sweep, a folder of its own inside of that or of Hydra's sweep folder."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        sweep = HydraConfig.get().sweep
        return os.path.join(wanted or sweep.dir, sweep.subdir)
    return wanted


def check_targets(node: Any, allowed: Sequence[str], key: str) -> None:
    """Refuse a ``_target_`` that leads outside the allowed packages, under whatever name it is reached.

    Raises:
        ValueError: naming key, target and ``allow_targets``.
    """
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None:
            _check_target(str(target), allowed, f"{key}._target_")
        for name, child in node.items():
            check_targets(child, allowed, f"{key}.{name}")
    elif isinstance(node, list):
        for i, child in enumerate(node):
            check_targets(child, allowed, f"{key}[{i}]")


@contextlib.contextmanager
def readable_errors(command: str = "extract") -> Iterator[None]:
    """Hydra's errors become one sentence of a ValueError; a wrong choice lists the right ones."""
    try:
        yield
    except MissingConfigException as error:
        wanted, options = error.missing_cfg_file or "", error.options or []
        group, _, name = wanted.rpartition("/")
        if group and options:
            raise ValueError(f"unknown {group} {name!r}; known: {', '.join(sorted(options))}") from None
        raise ValueError(" ".join(str(error).split())) from None
    except (HydraException, OmegaConfBaseException) as error:
        unknown = re.match(r"Could not override '(.+?)'\.", str(error))
        if unknown:
            raise ValueError(f"unknown setting {unknown[1]!r}; eigenseg {command} --help lists all of them") from None
        cause = error.__cause__
        detail = f" {cause}" if isinstance(cause, OmegaConfBaseException) else ""
        if isinstance(cause, ValidationError):  # its first line says what was wrong with the value
            merging = str(error).partition("merging override ")[2] or str(error)
            raise ValueError(f"{merging}: {str(cause).splitlines()[0]}") from None
        raise ValueError(" ".join(f"{error}{detail}".split())) from None


def _check_target(target: str, allowed: Sequence[str], key: str) -> None:
    if _within(target, allowed):
        # Hydra logs three lines before it raises what is said in one below.
        logging.getLogger("hydra.utils").disabled = True
        try:
            found = get_object(target)
        except Exception as error:
            reason = " ".join(str(error).split())
            own = not _within(target, TRUSTED)
            help_text = "; set PYTHONPATH to the folder that holds it" if own else ""
            raise ValueError(f"{key}={target} cannot be imported: {reason}{help_text}") from None
        finally:
            logging.getLogger("hydra.utils").disabled = False
        # torch.os.system begins with torch and is not torch's.
        home = getattr(found, "__module__", None) or ""
        if _within(home, allowed):
            return
        target = f"{target} (defined in {home or 'no module'})"
    raise ValueError(
        f"{key}={target} is outside {', '.join(allowed)}; if you trust it, add allow_targets=[{target.split('.')[0]}]"
    )


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _place_yaml(path: Path, group: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no such configuration: {path}")
    group.mkdir()
    shutil.copy(path, group / f"{path.stem}.yaml")
    return path.stem


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialise Hydra for us and give an application its own back."""
    application = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = application
