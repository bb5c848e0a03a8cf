"""A trainable as libraries for many devices want it: a module whose forward pass is the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LossModule(nn.Module):
    """A trainable whose forward pass is its loss, where DistributedDataParallel attaches itself."""

    def __init__(self, trainable: nn.Module) -> None:
        super().__init__()
        self.trainable = trainable

    def forward(self, batch: Opaque) -> dict[str, Tensor]:
        """Named losses of a batch."""
        losses: dict[str, Tensor] = self.trainable.loss(batch.content)  # type: ignore[operator]
        return losses


class Opaque:
    """A batch that libraries between the loop and the loss leave as it is."""

    def __init__(self, content: Any) -> None:
        self.content = content


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors in dicts, lists, tuples and named tuples; other objects stay as they are."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: to_device(one, device) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(one, device) for one in value))
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(one, device) for one in value)
    return value
