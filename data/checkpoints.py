"""Tensors from checkpoint files, and nothing but tensors: no pickled code is ever run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


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
        ValueError: if the file is damaged, holds pickled objects, or is not a dict.
    """
    if path.is_dir():
        raise ValueError(f"{argument}: {path} is a folder, expected a .pth, .pt or .safetensors file")
    if not path.is_file():
        expected = " or ".join([", ".join(["a .pth, .pt or .safetensors file", *words[:-1]]), *words[-1:]])
        raise FileNotFoundError(f"{argument}: no such file {path}; expected {expected}")
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
