"""Tensors from checkpoint files, and nothing but tensors: no pickled code is ever run."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_checkpoint(path: Path, argument: str, words: Sequence[str] = ()) -> dict[str, Any]:
    """Read the content of a ``.pth``, ``.pt`` or ``.safetensors`` file.

    Args:
        path: the file.
        argument: name of the argument that holds the path, for messages.
        words: what else that argument may be, for messages.

    Returns:
        The dict that the file holds: tensors by name, or nested dicts of them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, holds pickled objects, is not a dict, or cannot be read.
    """
    _check_regular(path, argument, words)
    try:
        with open(path, "rb"):  # the loaders give no reason
            pass
    except OSError as error:
        raise ValueError(f"{argument}: {path} cannot be read: {error.strerror}") from None
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of files that are rejected below
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Unsupported" not in str(error):
            raise ValueError(f"{argument}: {path} is damaged or not a checkpoint") from None
        raise ValueError(
            f"{argument}: {path} holds pickled Python objects, which could run code when loaded, so it is rejected; "
            "if you trust it, load it once yourself and save its tensors alone as .safetensors"
        ) from None
    # On arbitrary bytes torch's unpickler raises arbitrary exceptions, IndexError for one.
    except Exception:
        raise ValueError(f"{argument}: {path} is damaged or not a checkpoint") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{argument}: {path} holds a {type(content).__name__}, expected a dict of tensors")
    return dict(content)


def check_tensors(tensors: Mapping[Any, Any], origin: str) -> None:
    """Raise if something is no plain tensor of floating-point numbers under a name; values are not looked at.

    Args:
        tensors: by name.
        origin: where they come from, for messages.

    Raises:
        ValueError: naming the tensor and what is wrong with it.

    Example:
        >>> check_tensors({"bias": torch.zeros(2)}, "head.pth")
        >>> check_tensors({"bias": torch.zeros(2, dtype=torch.int64)}, "head.pth")
        Traceback (most recent call last):
        ValueError: head.pth holds bias as int64 numbers, expected plain tensors of floating-point numbers
    """
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise ValueError(f"{origin} holds a tensor under {name!r}, expected names, as a state dict has")
        kind = _kind(value)
        if kind is not None:
            raise ValueError(f"{origin} holds {name} as {kind}, expected plain tensors of floating-point numbers")


def check_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Raise if a value is not finite; after ``check_tensors``, and once the shapes are known to be small enough to look at.

    Raises:
        ValueError: naming the first tensor.
    """
    broken = sorted(name for name, value in tensors.items() if not torch.isfinite(value).all())
    if broken:
        more = ", ..." if len(broken) > 1 else ""
        raise ValueError(f"{origin} has values that are not finite ({broken[0]}{more}); it is damaged")


def _kind(value: Any) -> str | None:
    """What a value is, if it is no plain tensor of floating-point numbers."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_meta:
        return "a tensor without values (meta)"
    if value.is_quantized:
        return "quantized numbers"
    if value.is_nested or value.layout != torch.strided:
        return f"a {'nested' if value.is_nested else str(value.layout).removeprefix('torch.')} tensor"
    return None if value.dtype in _FLOATS else f"{str(value.dtype).removeprefix('torch.')} numbers"


def _check_regular(path: Path, argument: str, words: Sequence[str]) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise ValueError(f"{argument}: {path} cannot be read: {error.strerror}") from None
        expected = " or ".join([", ".join(["a .pth, .pt or .safetensors file", *words[:-1]]), *words[-1:]])
        raise FileNotFoundError(f"{argument}: no such file {path}; expected {expected}") from None
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ValueError(f"{argument}: {path} is {what}, expected a .pth, .pt or .safetensors file")


def read_metadata(path: Path) -> dict[str, str]:
    """What the header of a ``.safetensors`` file says beside its tensors; nothing of other files.

    Args:
        path: a file that ``read_checkpoint`` takes.
    """
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})
