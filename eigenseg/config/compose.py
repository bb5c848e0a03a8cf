"""Configurations as they are composed from yamls and overrides, and what can be read off them.

Only ``eigenseg.config`` and ``eigenseg.cli`` know Hydra; everything below takes plain arguments. This file loads no torch.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from eigenseg import configs
from eigenseg.config import schema
from eigenseg.config.overrides import ALLOW, Overrides, allowed_targets, as_overrides, quoted
from eigenseg.config.source import search_path
from eigenseg.config.spelling import did_you_mean

CONFIG_MODULE = "eigenseg.configs"
schema.register()


def compose(
    method: str | os.PathLike[str] | None = None,
    backbone: str | os.PathLike[str] | None = None,
    overrides: Overrides = (),
    config_dir: str | os.PathLike[str] | None = None,
    command: str = "extract",
) -> DictConfig:
    """Compose the configuration of a command outside a Hydra application, or inside another one without disturbing it.

    Args:
        method, backbone: a name, or the path of a yaml; None: what an experiment among the overrides says, else tokencut
            and dino_vits16.
        overrides: as on the command line, or a dict: ``{"method.tau": 0.3, "runtime": {"batch_size": 4}}``.
        config_dir: a folder that is searched besides the shipped one.
        command: whose: extract or evaluate.

    Raises:
        FileNotFoundError: if a yaml or the folder is missing.
        ValueError: if a name or an override is unknown, or a yaml reaches beyond its group.
    """
    settings = as_overrides(overrides)
    with contextlib.ExitStack() as stack:
        folders: list[Path] = []
        if config_dir is not None:
            if not Path(config_dir).is_dir():
                raise FileNotFoundError(f"config_dir: no such folder {os.fspath(config_dir)}")
            folders.append(Path(config_dir).resolve())
        names = {}
        for group, choice in (("method", method), ("backbone", backbone)):
            if choice is None:
                continue
            names[group] = str(choice)
            if str(choice).endswith((".yaml", ".yml")):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                names[group] = _copy_yaml(Path(choice), folder / group)
                folders.append(folder)
        search = ",".join(quoted(search_path(folder)) for folder in folders)
        chosen = [f"{group}={quoted(name)}" for group, name in names.items()]
        stack.enter_context(_own_hydra())
        with readable_errors(command):
            config = hydra_compose(command, overrides=[f"hydra.searchpath=[{search}]", *chosen, *settings])
    settle(config, settings)
    return config


def settle(config: DictConfig, overrides: Sequence[str]) -> None:
    """Let the overrides have the last word: groups without a choice are null, ``allow_targets`` is what they say alone.

    Args:
        config: as composed; changed in place.
        overrides: in the form that Hydra takes, see ``as_overrides``.

    Raises:
        ValueError: if a yaml sets ``allow_targets``, or an interpolation leads nowhere; naming it.
    """
    for group in schema.OPTIONAL:
        if f"~{group}" in overrides and group in config:
            config[group] = None  # an experiment's settings of it are left otherwise
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = re.search(r"full_key: (\S+)", str(error))
        raise ValueError(f"{f'{key[1]}: ' if key else ''}{str(error).splitlines()[0]}") from None
    allowed, typed = list(config.get(ALLOW) or []), allowed_targets(overrides)
    if allowed != typed:
        raise ValueError(
            f"{ALLOW} counts only from the command line or the overrides, a yaml must not set it, got {allowed}"
        )


def choices() -> dict[str, str]:
    """Names of the yamls that were chosen on the command line (backbone, method, dataset...); empty outside of Hydra."""
    if not HydraConfig.initialized():
        return {}
    return {group: str(name) for group, name in HydraConfig.get().runtime.choices.items() if name and "/" not in group}


def given_settings() -> list[str]:
    """The settings of the command line as they were typed; empty outside of Hydra."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def plain(config: DictConfig) -> dict[str, Any]:
    """All settings as dicts, lists and numbers, interpolations resolved; a missing one is None."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return {name: None if value == MISSING else value for name, value in settings.items()}


def job_folder(output_dir: str | None) -> str | None:
    """Where this job writes: ``output_dir``, or, in a sweep, a folder of its own below that or Hydra's sweep folder."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        sweep = HydraConfig.get().sweep
        return os.path.join(output_dir or sweep.dir, sweep.subdir)
    return output_dir


@contextlib.contextmanager
def readable_errors(command: str = "extract") -> Iterator[None]:
    """Hydra's errors become one sentence of a ValueError; a wrong choice lists the right ones."""
    try:
        yield
    except MissingConfigException as error:
        missing, options = error.missing_cfg_file or "", error.options or []
        group, _, name = missing.rpartition("/")
        if group and options:
            nested = group in schema.NESTED.values() and str(error).startswith(f"In '{group}/")
            known = sorted(option for option in options if not nested or _finds_in_images(group, option))
            raise ValueError(f"unknown {group} {name!r}; {did_you_mean(name, known)}known: {', '.join(known)}") from None
        raise ValueError(" ".join(str(error).split())) from None
    except (HydraException, OmegaConfBaseException) as error:
        unknown = re.match(r"Could not override '(?:\w+@)?(.+?)'\.", str(error))
        if unknown:
            near = _near(error.__cause__)
            raise ValueError(f"unknown setting {unknown[1]!r}; {near}eigenseg {command} --help lists all of them") from None
        cause = error.__cause__
        detail = f" {cause}" if isinstance(cause, OmegaConfBaseException) else ""
        if isinstance(cause, ValidationError):  # its first line says what was wrong with the value
            merging = str(error).partition("merging override ")[2] or str(error)
            raise ValueError(f"{merging}: {str(cause).splitlines()[0]}") from None
        raise ValueError(" ".join(f"{error}{detail}".split())) from None


def _near(cause: BaseException | None) -> str:
    """A hint at the setting that an unknown one may be a misspelling of."""
    parent, key = getattr(cause, "parent_node", None), str(getattr(cause, "full_key", ""))
    if not isinstance(parent, DictConfig):
        return ""
    above, dot, name = key.rpartition(".")
    return did_you_mean(name, (str(known) for known in parent)).replace("mean ", f"mean {above}{dot}")


def _finds_in_images(group: str, option: str) -> bool:
    """Whether a yaml is not the shipped one of a video method, which is no part of another."""
    shipped = Path(configs.__path__[0]) / group / f"{option}.yaml"
    return not (shipped.is_file() and "_target_: eigenseg.video." in shipped.read_text(encoding="utf-8"))


def _copy_yaml(path: Path, group: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no such configuration: {path}")
    group.mkdir()
    # A name that no shipped yaml has: those would be found first.
    name = f"own_{path.stem}"
    try:
        os.symlink(path.resolve(), group / f"{name}.yaml")  # errors name the file itself
    except OSError:  # some systems ask for a right to link
        shutil.copy(path, group / f"{name}.yaml")
    return name


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialize Hydra for us and give an application its own back."""
    application = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = application
