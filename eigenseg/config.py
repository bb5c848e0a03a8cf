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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from eigenseg.data import Preprocess
from eigenseg.discovery import Backbone, Method

CONFIG_MODULE = "eigenseg.configs"
# Code that a yaml may name without asking; anything else could be any function on the machine.
TRUSTED = ("eigenseg", "torch", "torchvision", "timm")


@dataclass
class PreprocessConfig:
    """Fields of ``eigenseg.data.Preprocess``; null means as the backbone and the method have it."""

    mode: str | None = None  # pad, round, square, crop
    resize: int | None = None  # shorter side in pixels, 0: native
    max_tokens: int | None = None


@dataclass
class RuntimeConfig:
    """Where and how fast."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1
    batch_size: int = 8  # pictures computed together
    workers: int = 2  # threads that decode pictures
    threads: int | None = None  # CPU threads of torch and BLAS; null: as many as cores


@dataclass
class OutputConfig:
    """What is written where."""

    dir: str | None = None  # null: outputs/extract, in a sweep the job's own folder
    labels: bool = True  # labels/<name>.png
    overlays: bool = True  # overlays/<name>.jpg
    heatmap: bool = False  # the eigenvector beside the overlay
    masks: bool = False  # masks/<name>/000.png


@dataclass
class ExtractConfig:
    """Root of ``eigenseg extract``."""

    input: str = MISSING  # file, folder, glob pattern or .txt list
    backbone: Any = MISSING
    method: Any = MISSING
    solver: Any = MISSING
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    resume: bool = True  # continue in an output folder of the same settings
    allow_targets: list[str] = field(default_factory=list)  # further packages that a yaml's _target_ may come from
    expected: Any = None  # an experiment's published numbers


ConfigStore.instance().store(name="eigenseg_extract", node=ExtractConfig)


def compose(
    method: str | os.PathLike[str] = "tokencut",
    backbone: str | os.PathLike[str] = "dino_vits16",
    overrides: Sequence[str] = (),
    config_dir: str | os.PathLike[str] | None = None,
) -> DictConfig:
    """Compose the configuration of ``extract`` outside a Hydra application, or inside another one without disturbing it.

    Args:
        method, backbone: a name, or the path of a yaml.
        overrides: Hydra overrides.
        config_dir: a folder that is searched besides the shipped one.

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
            names[group] = str(choice)
            if str(choice).endswith((".yaml", ".yml")):
                place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                names[group] = _place_yaml(Path(choice), place / group)
                places.append(place)
        search = ",".join(f"'file://{place}'" for place in places)
        chosen = [f"{group}='{name}'" for group, name in names.items()]
        stack.enter_context(_own_hydra())
        with readable_errors():
            return hydra_compose("extract", overrides=[f"hydra.searchpath=[{search}]", *chosen, *overrides])


class PredictorParts(TypedDict):
    """Arguments of ``Predictor``."""

    backbone: Backbone
    method: Method
    preprocess: Preprocess
    device: str


def build_parts(config: DictConfig) -> PredictorParts:
    """Build what a ``Predictor`` is made of.

    Raises:
        ValueError: if a ``_target_`` is not trusted, or a constructor refuses its arguments.
        FileNotFoundError: if weights are missing.
    """
    allowed = (*TRUSTED, *config.allow_targets)
    for group in ("backbone", "method"):
        check_targets(OmegaConf.to_container(config[group], resolve=True), allowed, group)
    # The method first: its mistakes cost nothing, the backbone's weights may take a minute.
    method = build(config.method)
    return PredictorParts(
        backbone=build(config.backbone),
        method=method,
        preprocess=Preprocess(**OmegaConf.to_container(config.preprocess)),  # type: ignore[arg-type]
        device=config.runtime.device,
    )


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
def readable_errors() -> Iterator[None]:
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
            raise ValueError(f"unknown setting {unknown[1]!r}; eigenseg extract --help lists all of them") from None
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
