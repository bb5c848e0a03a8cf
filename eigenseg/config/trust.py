"""Which code a yaml may name: a ``_target_`` could be any function on the machine.

Trusted is what a thing is, not how its name begins. Without asking, a yaml may name

- a class of eigenseg that fits the protocol of a group (a method, a backbone, a refiner...), or holds plain parameters,
- one of the solvers,
- a class of torch.nn, torch.optim, torchvision.models and timm.models, as an argument of the former.

Everything else is refused before it is imported, unless ``allow_targets`` names it or a package that holds it.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal

from torch import nn, optim

from eigenseg.discovery import spectral
from eigenseg.kinds import PROTOCOLS, fits, misfit

# Libraries whose networks and optimizers are arguments of classes, and the classes that these derive from: their modules
# also hold functions that load files and download.
_LIBRARIES = ("torch.nn", "torch.optim", "torchvision.models", "timm.models")
_LIBRARY_CLASSES = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
_SOLVERS = (spectral.solve_ncut, spectral.solve_ncut_dense, spectral.solve_ncut_arpack, spectral.solve_ncut_lobpcg)
_PLAIN = (bool, int, float, str, NoneType)
# What a node may say of itself. Hydra's _args_ and _recursive_ are not among them: nothing here needs them.
TARGET, PARTIAL, CONVERT = "_target_", "_partial_", "_convert_"


def check_targets(node: Any, allowed: Sequence[str], key: str) -> None:
    """Raise if a ``_target_`` is not trusted, at any depth, under whatever name it is reached; nothing is called.

    Args:
        node: of dicts, lists and plain values, interpolations resolved.
        allowed: packages, modules, classes or functions that the user allows besides.
        key: of the node, a group or a dotted name below one; what stands there itself must be what the group holds.

    Raises:
        ValueError: naming key, target and ``allow_targets``.
    """
    if isinstance(node, Mapping):
        for name in node:
            if not isinstance(name, str):
                raise ValueError(f"{key}: names of settings are strings, got {name!r}")
            if name.startswith("_") and name.endswith("_") and name not in (TARGET, PARTIAL, CONVERT):
                raise ValueError(f"{key}.{name} is not supported; a node has {TARGET} and {PARTIAL} besides its arguments")
        if TARGET in node:
            find_target(node[TARGET], allowed, key)
        elif _group(key):
            raise ValueError(f"{key} has no _target_, the class that it is built from")
        for name, child in node.items():
            check_targets(child, allowed, f"{key}.{name}")
    elif isinstance(node, list):
        for i, child in enumerate(node):
            check_targets(child, allowed, f"{key}[{i}]")


def find_target(target: Any, allowed: Sequence[str], key: str) -> Callable[..., Any]:
    """The class or function of a ``_target_``, if it is trusted.

    Raises:
        ValueError: naming key, target and ``allow_targets``.

    Example:
        >>> find_target("eigenseg.discovery.LOST", (), "method").__name__
        'LOST'
        >>> find_target("shutil.rmtree", (), "method")
        Traceback (most recent call last):
            ...
        ValueError: method._target_=shutil.rmtree is outside what a yaml may name: ...
    """
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise ValueError(f"{key}._target_ must be a dotted name, such as eigenseg.discovery.TokenCut, got {target!r}")
    if _within(target, allowed):
        found = _locate(target, key, own=True)
        # my_methods.os.system begins with my_methods and is not defined there.
        home = getattr(found, "__module__", None) or ""
        if not callable(found):
            raise ValueError(f"{key}._target_={target} is no class or function, but a {type(found).__name__}")
        if target in allowed or _within(home, allowed) or _is_trusted(found, key):
            return found  # type: ignore[no-any-return]
        raise _outside(f"{target} (defined in {home or 'no module'})", target, key)
    if _within(target, ("eigenseg", *_LIBRARIES)):
        found = _locate(target, key, own=False)
        if _is_trusted(found, key):
            return found  # type: ignore[no-any-return]
        group = _group(key)
        if group and inspect.isclass(found) and _within(found.__module__, ("eigenseg", *_LIBRARIES)):
            raise ValueError(f"{key}._target_={target}: {misfit(group, found)}")
    raise _outside(target, target, key)


def _is_trusted(found: Any, key: str) -> bool:
    group = _group(key)
    if any(found is solver for solver in _SOLVERS):
        return group is None
    if not inspect.isclass(found):
        return False
    if _within(found.__module__, ("eigenseg",)):
        if group is not None:
            return fits(found, group)
        return any(fits(found, kind) for kind in PROTOCOLS) or _holds_parameters(found)
    return group is None and _within(found.__module__, _LIBRARIES) and issubclass(found, _LIBRARY_CLASSES)


def _group(key: str) -> str | None:
    """The group that a key is an entry of; None for an argument."""
    entry = key.partition("[")[0]
    return entry if entry in PROTOCOLS and (entry == key or key.endswith("]")) else None


def _holds_parameters(cls: type) -> bool:
    """Whether a class is a dataclass of numbers, strings and None, which does nothing but hold them."""
    return dataclasses.is_dataclass(cls) and all(_is_plain(hint) for hint in typing.get_type_hints(cls).values())


def _is_plain(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (tuple, UnionType, typing.Union):
        return all(part is Ellipsis or _is_plain(part) for part in typing.get_args(hint))
    return origin is Literal or hint in _PLAIN


def _locate(target: str, key: str, own: bool) -> Any:
    """Import what a dotted name means: modules as far as they go, then attributes."""
    first, *rest = target.split(".")
    try:
        found: Any = importlib.import_module(first)
        path = first
        for part in rest:
            path = f"{path}.{part}"
            if isinstance(found, ModuleType) and not hasattr(found, part):
                found = importlib.import_module(path)
            else:
                found = getattr(found, part)
    except Exception as error:
        reason = " ".join(str(error).split())
        advice = "; set PYTHONPATH to the folder that holds it" if own else ""
        raise ValueError(f"{key}._target_={target} cannot be imported: {reason}{advice}") from None
    return found


def _outside(what: str, target: str, key: str) -> ValueError:
    return ValueError(
        f"{key}._target_={what} is outside what a yaml may name: classes of eigenseg that fit, its solvers, and as their "
        f"arguments classes of {', '.join(_LIBRARIES)}; if you trust it, add allow_targets=[{target}] to the command or "
        "the overrides"
    )


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
