"""FOUND's head: a 1x1 convolution from a patch's key to its saliency (Siméoni et al., CVPR 2023)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eigenseg.data.checkpoints import check_finite, check_tensors, read_checkpoint


class FoundHead(nn.Module):
    """A 1x1 convolution, d -> 1 with a bias: one saliency logit per patch.

    Its state dict, the format that ``load_head`` reads, holds ``decoder.weight`` (1, d, 1, 1) and ``decoder.bias`` (1,).

    Args:
        width: d, the width of the keys; 384 for ViT-S.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.decoder = nn.Conv2d(width, 1, kernel_size=1)

    @property
    def width(self) -> int:
        """d."""
        return self.decoder.in_channels

    def forward(self, keys: Tensor) -> Tensor:
        """Logits (B, N) of keys (B, N, d), in the keys' precision."""
        weight, bias = self.decoder.weight.flatten(1), self.decoder.bias
        assert bias is not None
        # A 1x1 convolution is a matrix product, which unlike cuDNN has no TensorFloat-32 setting of its own.
        return F.linear(keys, weight.to(keys), bias.to(keys))[..., 0]


def load_head(source: str | os.PathLike[str] | Mapping[str, Any]) -> FoundHead:
    """Load a head from a ``.pth``/``.pt``/``.safetensors`` file or a state dict; names as in ``FoundHead``.

    ``weight`` and ``bias``, the convolution's own state dict, work too. Other tensors are not allowed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold exactly these two tensors.
    """
    if isinstance(source, Mapping):
        content, origin = dict(source), "the state dict"
    else:
        path = Path(source).expanduser()
        content, origin = read_checkpoint(path, "head", ("'random'",)), str(path)
    tensors = {str(name).removeprefix("decoder."): value for name, value in content.items()}
    if set(tensors) != {"weight", "bias"} or len(content) != 2:
        names = ", ".join(sorted(map(str, content))[:4])
        raise ValueError(
            f"head: {origin} must hold decoder.weight and decoder.bias and nothing else, got {names or 'nothing'}"
        )
    weight, bias = tensors["weight"], tensors["bias"]
    check_tensors({f"decoder.{name}": value for name, value in tensors.items()}, f"head: {origin}")
    if weight.ndim != 4 or weight.shape[0] != 1 or weight.shape[2:] != (1, 1) or not weight.numel() or bias.shape != (1,):
        shapes = f"{list(weight.shape)} and {list(bias.shape)}"
        raise ValueError(f"head: {origin} must hold a weight [1, d, 1, 1] and a bias [1], got {shapes}")
    check_finite({"decoder.weight": weight, "decoder.bias": bias}, f"head: {origin}")
    with torch.random.fork_rng(devices=[]):  # the constructor's random weights are replaced below
        head = FoundHead(weight.shape[1])
    head.load_state_dict({"decoder.weight": weight, "decoder.bias": bias}, strict=True)
    return head.eval().requires_grad_(False)


def random_head(width: int, seed: int = 0) -> FoundHead:
    """An untrained head, for tests and ablations; torch's global generators are left alone."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, width, 1, 1, generator=generator, dtype=torch.float32) / width**0.5
    return load_head({"decoder.weight": weight, "decoder.bias": torch.zeros(1)})
