"""Which code a yaml may name: a ``_target_`` could be any function on the machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import get_object

# Code that a yaml may name without asking.
TRUSTED = ("eigenseg", "torch", "torchvision", "timm")


def check_targets(node: Any, allowed: Sequence[str], key: str) -> None:
    """Raise if a ``_target_`` leads outside the allowed packages, under whatever name it is reached.

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


def _check_target(target: str, allowed: Sequence[str], key: str) -> None:
    if _within(target, allowed):
        # Hydra logs three lines before it raises what is said in one below.
        logging.getLogger("hydra.utils").disabled = True
        try:
            target_object = get_object(target)
        except Exception as error:
            reason = " ".join(str(error).split())
            own = not _within(target, TRUSTED)
            help_text = "; set PYTHONPATH to the folder that holds it" if own else ""
            raise ValueError(f"{key}={target} cannot be imported: {reason}{help_text}") from None
        finally:
            logging.getLogger("hydra.utils").disabled = False
        # torch.os.system begins with torch and is not torch's.
        home = getattr(target_object, "__module__", None) or ""
        if _within(home, allowed):
            return
        target = f"{target} (defined in {home or 'no module'})"
    raise ValueError(
        f"{key}={target} is outside {', '.join(allowed)}; if you trust it, add allow_targets=[{target.split('.')[0]}]"
    )


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
