"""What decides the results of a run: its settings, with what files hold in place of where they lie."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

_CHUNK = 2**20  # bytes read at once: large enough to be fast, small beside any checkpoint


def resolve_identity(settings: Mapping[str, Any], file_settings: Collection[str] = ()) -> dict[str, Any]:
    """Replace paths of existing files by ``{"sha256": ...}`` of their content.

    A file that is replaced under the same name changes the identity, a file that moves does not. A string is a path if its
    setting is one of ``file_settings``, or if it has a suffix or a path separator, and names an existing file. Everything
    else stays: names, addresses, folders and files that are not there. ``_target_`` is never a path.

    Args:
        settings: nested dicts and lists of json values. Where the input lies does not belong here: a list of images may
            grow between two runs.
        file_settings: dotted names such as ``method.head``; settings deeper within the same group count as well, so that
            this one also means ``method.base.head``.

    Returns:
        A copy of the settings, json values only.

    Raises:
        ValueError: if a file cannot be read.

    Example:
        >>> resolve_identity({"method": {"head": "no/such/file.pth", "scales": (1, 2)}}, ["method.head"])
        {'method': {'head': 'no/such/file.pth', 'scales': [1, 2]}}
    """
    ends = {_ends(name.split(".")) for name in file_settings}
    resolved: dict[str, Any] = _resolve(settings, [], ends)
    return resolved


def differences(before: Any, now: Any) -> list[str]:
    """What differs between two identities, sorted: ``method.tau (0.2 before, 0.3 now)``.

    Example:
        >>> differences({"method": {"tau": 0.2}}, {"method": {"tau": 0.3}, "seed": 1})
        ['method.tau (0.2 before, 0.3 now)', 'seed (absent before, 1 now)']
    """
    return sorted(_differences(before, now, ""))


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file as hexadecimal digits; a file that has not changed since is not read again.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        status = os.stat(path)
        return _sha256(os.path.abspath(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ValueError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None


@functools.lru_cache(maxsize=256)  # many more files than one configuration names
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _resolve(value: Any, keys: list[str], files: Collection[tuple[str, str]]) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _resolve(item, [*keys, str(name)], files) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolve(item, keys, files) for item in value]  # settings name the list, not its entries
    if isinstance(value, (str, os.PathLike)) and keys[-1:] != ["_target_"]:
        text = os.fspath(value)
        declared = bool(keys) and _ends(keys) in files
        if (declared or _looks_like_a_path(text)) and os.path.isfile(text):
            return {"sha256": file_sha256(text)}
        return text
    return value


def _ends(keys: list[str]) -> tuple[str, str]:
    return keys[0], keys[-1]


def _looks_like_a_path(text: str) -> bool:
    return bool(Path(text).suffix) or os.sep in text or "/" in text


def _differences(before: Any, now: Any, prefix: str) -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        # The settings of two classes need not have anything in common.
        names = {"_target_"} if before.get("_target_") != now.get("_target_") else {*before, *now}
        pairs = [(name, before.get(name, "absent"), now.get(name, "absent")) for name in names]
        return [line for name, old, new in pairs if old != new for line in _differences(old, new, f"{prefix}{name}.")]
    return [f"{prefix.rstrip('.')} ({_short(before)} before, {_short(now)} now)"]


def _short(value: Any) -> Any:
    """A value as it is told to a user: of a hash the first digits are enough to tell files apart."""
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value
