"""Settings as people type them, and as Python gives them, in the form that Hydra's grammar takes."""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from eigenseg.config.schema import CHOSEN, NESTED, OPTIONAL, PATHS

Overrides = Sequence[str] | Mapping[str, Any]

ALLOW = "allow_targets"
_SEARCH = "hydra.searchpath"
# Values of these characters mean what they say; others may be operators of Hydra's grammar.
_HARMLESS = re.compile(r"[\w.\-/,:+]*")


def as_overrides(settings: Overrides, sweep: bool = False) -> list[str]:
    """Overrides as Hydra takes them.

    Args:
        settings: as typed (``["method.tau=0.3"]``), or a dict, nested or with dotted names, of plain values, lists, paths.
        sweep: commas separate values.

    Raises:
        TypeError, ValueError: naming the setting that is none.

    Example:
        >>> as_overrides(["method.base=maskcut", "postprocess=null", "method.head=h(1).pth"])
        ['method@method.base=maskcut', '~postprocess', "method.head='h(1).pth'"]
        >>> as_overrides({"method": "found", "method.head": "h(1).pth", "runtime": {"batch_size": 4}, "postprocess": None})
        ["method='found'", "method.head='h(1).pth'", 'runtime.batch_size=4', '~postprocess']
    """
    given: Any = settings
    if isinstance(given, str) or not isinstance(given, (Mapping, Sequence)):
        raise TypeError(f"overrides must be a list of strings, or a dict, got {type(settings).__name__} {settings!r}")
    if isinstance(settings, Mapping):
        return [_nest(f"{key}={value}") for key, value in _flat(settings, "")]
    for override in settings:
        if not isinstance(override, str):
            raise TypeError(f"overrides must be strings, such as 'method.tau=0.3', got {override!r}")
    return [_nest(_literal(override, sweep), sweep) for override in settings]


def allowed_targets(overrides: Sequence[str]) -> list[str]:
    """What ``allow_targets`` names among the overrides; what a yaml says of it does not count.

    Raises:
        ValueError: if a sweep varies it.

    Example:
        >>> allowed_targets(["method.tau=0.3", "allow_targets=[my_methods]"])
        ['my_methods']
    """
    names: list[str] = []
    for override in (_parsed(text) for text in overrides if text.lstrip("+").startswith(f"{ALLOW}=")):
        if override is None or override.is_sweep_override():
            raise ValueError(f"{ALLOW} takes a list of names, such as {ALLOW}=[my_methods]; a sweep cannot vary it")
        value = override.value()
        names = [str(name) for name in value] if isinstance(value, list) else []
    return names


def quoted(text: str) -> str:
    """A string that Hydra takes as it is.

    Example:
        >>> print(quoted("it's ${x}"))
        'it\\'s \\${x}'
    """
    # A backslash is one, but before ${ for OmegaConf and, what Hydra reads first, before a quote.
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", literal)
    return "'" + escaped + "\\" * (len(escaped) - len(escaped.rstrip("\\"))) + "'"


def _literal(override: str, sweep: bool) -> str:
    """A path as it was typed, with ~ expanded; another value likewise where it means nothing to Hydra."""
    key, equals, value = override.partition("=")
    name = key.lstrip("+")
    if name == _SEARCH:
        raise ValueError(
            f"{_SEARCH} is not a setting; a folder of your own yamls is --config-dir FOLDER (config_dir in Python)"
        )
    if name == ALLOW and value and value[0] not in "['\"":
        return f"{key}=[{value}]"
    if not equals or value in ("", "null") or value[0] in "'\"":
        return override
    if name in PATHS:
        path = os.path.expanduser(value)
        # In a sweep a comma separates values, unless a file is called so.
        return override if sweep and "," in value and not os.path.exists(path) else f"{key}={quoted(path)}"
    if _HARMLESS.fullmatch(value) or _parsed(override) is not None:
        return override
    if value[0] in "[{":
        raise ValueError(f"{override} cannot be read; a list is written {key}=[a,b], a dict {key}={{a:1,b:2}}")
    return f"{key}={quoted(value)}"


def _nest(override: str, sweep: bool = False) -> str:
    """The name of a nested method selects its yaml, and no group is a deletion."""
    key, equals, value = override.partition("=")
    if key in (*OPTIONAL, *CHOSEN) and "null" in value.split(","):
        if value != "null":
            raise ValueError(f"{key}=null cannot be one of several values{' of a sweep' * sweep}; run it apart")
        if key in CHOSEN:
            raise ValueError(f"{key} must not be null; choose one, eigenseg extract --help lists them")
        return f"~{key}"
    named = key in NESTED and value not in ("", "null") and value[0] not in "{["
    return f"{NESTED[key]}@{key}{equals}{value}" if named else override


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if not re.fullmatch(r"[\w.@/+~-]+", str(name)) or not isinstance(name, str):
            raise TypeError(f"overrides: names of settings are strings, such as 'method.tau', got {name!r}")
        key = f"{prefix}{name}"
        if key == _SEARCH:
            raise ValueError(f"{_SEARCH} is not a setting; give config_dir a folder of your own yamls")
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{key}.")
        else:
            yield key, _value(os.path.expanduser(value) if key in PATHS and isinstance(value, str) else value, key)


def _value(value: Any, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return repr(number) if math.isfinite(number) else {math.inf: "inf", -math.inf: "-inf"}.get(number, "nan")
    if isinstance(value, (str, os.PathLike)):
        return quoted(os.fspath(value))
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_value(entry, key) for entry in value)}]"
    if isinstance(value, Mapping) and all(isinstance(name, str) and name.isidentifier() for name in value):
        return f"{{{','.join(f'{name}:{_value(entry, key)}' for name, entry in value.items())}}}"
    raise TypeError(f"overrides: {key} must be None, a number, a string, a path, or a list or dict of them, got {value!r}")


def _parsed(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None
