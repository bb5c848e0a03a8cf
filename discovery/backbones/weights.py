"""Weights for a timm model: by name, from a file, from a state dict, or random. Loading is always strict."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from eigenseg.data.checkpoints import check_finite, check_tensors, read_checkpoint
from eigenseg.data.results.identity import file_sha256

PRETRAINED, RANDOM = "pretrained", "random"
# A training checkpoint keeps the network under one of these keys, best first: DINO's published network is the teacher.
_CONTAINERS = ("teacher", "student", "model_ema", "model", "state_dict")
_PREFIXES = ("module.", "backbone.")
# Projection and classification heads of self-supervised training; a feature extractor has none.
_HEADS = ("head.", "fc_norm.", "dino_head.", "ibot_head.")


def load_vit(
    architecture: str,
    weights: str | os.PathLike[str] | Mapping[str, Tensor],
    cached_as: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a timm ViT and load its weights.

    Args:
        architecture: timm's name, such as ``vit_small_patch16_224.dino``.
        weights: ``"pretrained"`` (torch hub's folder of downloaded checkpoints, then timm's cache and download),
            ``"random"``, the path of a ``.pth``/``.pt``/``.safetensors`` file, or a state dict.
        cached_as: file name of the authors' checkpoint in torch hub's folder.
        model_args: further arguments of the timm model, for other sizes.
        seed: of random weights; the global generators are left alone.

    Returns:
        The model in evaluation mode on the CPU, and the provenance of its weights as JSON values.

    Raises:
        FileNotFoundError: if no weights are available; the message names the ways to get them.
        ValueError: if a file does not hold exactly this architecture's tensors.
    """
    options = {"num_classes": 0, "dynamic_img_size": True, **(model_args or {})}
    if isinstance(weights, Mapping):
        return _load(architecture, options, dict(weights), "the state dict"), {"source": "state dict"}
    if weights == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _create(architecture, options)
        return model.eval(), {"source": RANDOM, "seed": seed}
    if weights == PRETRAINED:
        hub_path = Path(torch.hub.get_dir(), "checkpoints", cached_as) if cached_as else None
        cached = hub_path if hub_path and hub_path.exists() else _in_hub_cache(architecture)
        if cached is None:
            return _download(architecture, options, hub_path)
        weights = cached
    path = Path(weights).expanduser()
    before = path.stat() if path.is_file() else None
    content = read_checkpoint(path, "backbone.weights", (f"'{PRETRAINED}'", f"'{RANDOM}'"))
    model, digest, after = _load(architecture, options, content, str(path)), file_sha256(path), path.stat()
    if before is None or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ValueError(f"backbone.weights: {path} changed while it was read; run the same command again")
    return model, {"source": str(path), "sha256": digest}


def unwrap(content: Mapping[Any, Any], origin: str = "the checkpoint") -> dict[Any, Tensor]:
    """The network's tensors in a training checkpoint: containers, wrapper prefixes and heads are removed.

    Raises:
        ValueError: if a container holds itself.
    """
    outer: list[Mapping[Any, Any]] = []
    while (name := next((name for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)) is not None:
        outer.append(content)
        content = content[name]
        if any(content is one for one in outer):
            raise ValueError(f"backbone.weights: {origin} holds itself under {name!r}")
    tensors = {}
    for key, value in content.items():
        if isinstance(key, str):
            for prefix in _PREFIXES:
                key = key.removeprefix(prefix)
        if isinstance(value, Tensor) and not (isinstance(key, str) and key.startswith(_HEADS)):
            tensors[key] = value
    return tensors


def _load(architecture: str, options: dict[str, Any], content: Mapping[str, Any], origin: str) -> nn.Module:
    model = _create(architecture, options)
    tensors = unwrap(content, origin)
    check_tensors(tensors, f"backbone.weights: {origin}")
    state = _to_timm_names(tensors, model, origin)
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if missing or unexpected or shapes:
        problems = [f"{len(missing)} tensors missing" + _example(missing)] if missing else []
        problems += [f"{len(unexpected)} unexpected" + _example(unexpected)] if unexpected else []
        if shapes:
            name = min(shapes)
            problems.append(
                f"{len(shapes)} of another shape ({name}: {list(state[name].shape)}, expected {list(expected[name].shape)})"
            )
        raise ValueError(
            f"backbone.weights: {origin} does not fit {architecture}: {'; '.join(problems)}; "
            "choose the backbone that matches the file"
        )
    check_finite(state, f"backbone.weights: {origin}")
    model.load_state_dict(state, strict=True)
    return model.eval()


def _to_timm_names(state: dict[str, Tensor], model: nn.Module, origin: str) -> dict[str, Tensor]:
    """Rename tensors of DINOv2 and DINOv3 checkpoints to timm's names; DINO's are the same already."""
    try:
        if isinstance(model, eva.Eva) and "storage_tokens" in state:
            return dict(eva.checkpoint_filter_fn(state, model))
        if isinstance(model, vision_transformer.VisionTransformer) and "mask_token" in state:
            return dict(vision_transformer._convert_dinov2(dict(state), model))
    # timm's functions expect the shapes of their model.
    except Exception as error:
        raise ValueError(f"backbone.weights: {origin} does not fit the architecture: {_first_line(error)}") from None
    return state


def _create(architecture: str, options: dict[str, Any]) -> nn.Module:
    try:
        with _float32():
            model: nn.Module = timm.create_model(architecture, pretrained=False, **options)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"backbone.architecture {architecture!r} cannot be built by timm: {_first_line(error)}") from None
    return model


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    """Parameters are float32, as the images are, whatever default the user's program has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _in_hub_cache(architecture: str) -> Path | None:
    """The file that timm downloaded earlier, looked up without network access."""
    settings = timm.get_pretrained_cfg(architecture)
    for name in ("model.safetensors", "pytorch_model.bin"):
        cached = huggingface_hub.try_to_load_from_cache(settings.hf_hub_id, name) if settings else None
        if isinstance(cached, str):
            return Path(cached)
    return None


def _download(architecture: str, options: dict[str, Any], hub_path: Path | None) -> tuple[nn.Module, dict[str, Any]]:
    _create(architecture, options)  # a wrong name is the user's error, not the network's
    try:
        _require_hub()
        with _float32():
            model: nn.Module = timm.create_model(architecture, pretrained=True, **options)
    # The hub's client raises its own, its HTTP library's or the system's errors, depending on what is missing.
    except Exception as error:
        authors = f", or put the authors' file at {hub_path}" if hub_path else ""
        raise FileNotFoundError(
            f"no weights for {architecture}: they are in no cache and cannot be downloaded ({type(error).__name__}). "
            "Go online once, so that timm can download them; or give a file with backbone.weights=path.pth "
            f"(or .safetensors){authors}. To try eigenseg without weights use backbone=color_texture"
        ) from error
    return model.eval(), {"source": "timm", "sha256_of_tensors": _digest(model)}


def _require_hub() -> None:
    """Fail at once without a network; the hub's client would retry for most of a minute."""
    if not any(urllib.request.getproxies().get(kind) for kind in ("https", "all")):
        host = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
        socket.create_connection((host.hostname or "", host.port or 443), timeout=5).close()


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _example(names: list[str]) -> str:
    return f" ({names[0]}{', ...' if len(names) > 1 else ''})"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
