"""Yamls of the user's own: found and read as Hydra does, and held to their place in the tree before they are composed.

Hydra instantiates callbacks, loggers and launchers from its own node of the tree before any command starts. A downloaded
yaml must not reach that node, nor ``allow_targets``: the yaml of a group sets its group alone. Other groups it may choose
(``override /backbone@_global_.backbone: null`` in its defaults), not fill.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

SCHEME = "eigenseg"
# The longest shipped yaml has 1.5 kB; PyYAML reads 64 kB in about a second.
_MAX_BYTES = 65536
# Aliases multiply: ten lists of ten aliases each are ten billion values.
_MAX_VALUES = 10_000
_MAX_DEPTH = 40  # far more than any class nests, far less than Python's stack holds
_CHOICE = re.compile(r"override /(\w+)@_global_\.\1")  # another yaml of an existing group in that group's own place
_SITE = ("hydra/launcher/", "hydra/sweeper/")  # a cluster's queue and account


class UserSource(FileConfigSource):
    """A folder of the user's yamls."""

    @staticmethod
    def scheme() -> str:
        """Of its address, ``eigenseg://folder``."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a yaml.

        Raises:
            ValueError: if it is no yaml, is too large, or reaches beyond its group.
        """
        path = os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path)))
        content = _read(path)
        try:
            result = super().load_config(config_path)
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path} cannot be read: {_line(error)}") from None
        _check_place(path, config_path, result, content)
        return result


def search_path(folder: str | os.PathLike[str]) -> str:
    """The entry of Hydra's search path for a folder of yamls."""
    Plugins.instance().register(UserSource)
    return f"{SCHEME}://{Path(folder).resolve()}"


def _read(path: str) -> Any:
    try:
        if os.path.getsize(path) > _MAX_BYTES:
            raise ValueError(f"{path} has more than {_MAX_BYTES} bytes, which no configuration needs")
        with open(path, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
        if content is not None and not isinstance(content, dict):
            raise ValueError(f"{path} must hold settings, key: value, got a {type(content).__name__}")
        if _count(content, {}) > _MAX_VALUES:
            raise ValueError(f"{path} has more than {_MAX_VALUES} values, which no configuration needs")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no yaml of plain values: {_line(error)}") from None
    except RecursionError:
        raise ValueError(f"{path} is nested more than {_MAX_DEPTH} deep") from None
    return content


def _count(node: Any, known: dict[int, int], depth: int = 0) -> int:
    """Values of a node when all aliases are written out."""
    if depth > _MAX_DEPTH:
        raise RecursionError
    if not isinstance(node, (dict, list)):
        return 1
    if id(node) not in known:
        children = node.values() if isinstance(node, dict) else node
        known[id(node)] = 1 + sum(_count(child, known, depth + 1) for child in children)
    return known[id(node)]


def _check_place(path: str, config_path: str, result: ConfigResult, content: Any) -> None:
    group = config_path.rpartition("/")[0]
    if not group or ".." in config_path.split("/"):
        raise ValueError(
            f"{path} is in no group; a yaml lies in GROUP/NAME.yaml below the folder, such as method/mine.yaml"
        )
    package = result.header.get("package")
    if package not in (None, "_group_"):
        raise ValueError(
            f"{path} must not have the header '@package {package}': a yaml sets its own group, {group}, alone; "
            "other settings belong to the command line, or the overrides"
        )
    for entry in _default_keys((content or {}).get("defaults")):
        if ("_global_" in entry or "${" in entry) and not _CHOICE.fullmatch(entry):
            raise ValueError(
                f"{path} must not have {entry!r} among its defaults: a yaml sets its own group, {group}, alone, and may "
                "choose another group's yaml, such as 'override /backbone@_global_.backbone: dino_vits16'"
            )
    if f"{group}/".startswith("hydra/"):
        _check_site(path, f"{group}/", content)


def _check_site(path: str, group: str, content: Any) -> None:
    """Of Hydra's own groups, whose targets Hydra calls unchecked, those for a cluster's settings, as plain values."""
    text = OmegaConf.to_yaml(OmegaConf.create(content or {}))
    if group not in _SITE or "_target_" in text or "${" in text:
        raise ValueError(
            f"{path}: of Hydra's own groups, a yaml may set hydra/launcher and hydra/sweeper, by plain values over a "
            "shipped one (defaults: [submitit_slurm]), without _target_ and ${...}"
        )


def _default_keys(defaults: Any) -> Iterator[str]:
    """The groups and packages of a defaults list, as they are written."""
    for entry in defaults if isinstance(defaults, list) else []:
        yield from (str(key) for key in (entry if isinstance(entry, dict) else [entry]))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
