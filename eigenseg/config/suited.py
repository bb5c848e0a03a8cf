"""Settings of methods that suit a backbone's features: the table ``suited`` of its yaml.

A published graph threshold belongs to the features that it was chosen on. A method's yaml therefore asks the backbone,

    tau: ${oc.select:backbone.suited.tokencut.tau,0.2}

and takes the published value where the backbone says nothing. What the user sets stands over both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

TABLE = "suited"


def suited_settings(config: DictConfig) -> dict[str, Any]:
    """The settings in force that the backbone's table decides, by their names on the command line.

    Example:
        >>> from eigenseg.config.compose import compose
        >>> suited_settings(compose("tokencut", "color_texture"))
        {'method.reject_flawed': True}
    """
    if not isinstance(config.backbone, DictConfig) or TABLE not in config.backbone:
        return {}
    written: Any = OmegaConf.to_container(config.method, resolve=False)
    resolved: Any = OmegaConf.to_container(config.method, resolve=True)
    asking = _asking(written, resolved, "method")
    return {name: value for name, value, entry in asking if OmegaConf.select(config, entry) is not None}


def without_table(config: DictConfig) -> Any:
    """The backbone's node with its constructor's arguments alone; None if there is no backbone."""
    if config.backbone is None:
        return None
    config = config.copy()
    with open_dict(config.backbone):
        config.backbone.pop(TABLE, None)
    return config.backbone


def _asking(written: Any, resolved: Any, prefix: str) -> Iterator[tuple[str, Any, str]]:
    """Name and value of every setting that asks the backbone, and the entry of its table."""
    for key, text in written.items():
        name = f"{prefix}.{key}"
        if isinstance(text, dict) and isinstance(resolved[key], dict):
            yield from _asking(text, resolved[key], name)
        elif asks := re.match(rf"\$\{{oc\.select:(backbone\.{TABLE}\.[\w.]+),", str(text)):
            yield name, resolved[key], asks[1]
