"""Checks of features, weights and parameters of token graphs."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

LARGEST_WEIGHT = 1e100  # squares of sums of larger ones overflow


def check_features(features: Any) -> None:
    """Raise if this is not a batch of token features.

    Raises:
        TypeError: if it is not a tensor.
        ValueError: if its shape or dtype is wrong, or the batch is empty.
    """
    if not isinstance(features, Tensor):
        raise TypeError(f"features must be a torch tensor (B, N, D), got {type(features).__name__}")
    if features.ndim != 3 or not features.is_floating_point() or not len(features):
        raise ValueError(
            f"features must be (B, N, D) floating with B at least 1, got {tuple(features.shape)} {features.dtype}"
        )


def check_graph_parameters(tau: Any, eps: Any) -> None:
    """Raise if the threshold or the background weight is out of range; values from a yaml may have any type.

    Raises:
        ValueError: naming the parameter.
    """
    if not (isinstance(tau, Real) and 0 <= float(tau) < 1):
        raise ValueError(f"tau must be a number in [0, 1), got {tau!r}")
    if not (isinstance(eps, Real) and 0 < float(eps) < 1):
        raise ValueError(f"eps must be a number in (0, 1), got {eps!r}")


def check_weights(weights: Any, eps: Any) -> None:
    """Raise if these are not a batch of symmetric weights and a background weight.

    Raises:
        TypeError: if the weights are not a tensor.
        ValueError: if shape, range or symmetry are wrong.
    """
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights must be a torch tensor (B, N, N), got {type(weights).__name__}")
    if weights.ndim != 3 or weights.shape[1] != weights.shape[2] or not weights.numel():
        raise ValueError(f"weights must be (B, N, N) with B and N at least 1, got {tuple(weights.shape)}")
    if not (isinstance(eps, (int, float)) and 0 <= eps < math.inf):
        raise ValueError(f"eps must be a number of at least 0, got {eps!r}")
    peak = float(weights.max())
    if not peak <= LARGEST_WEIGHT or weights.min() < 0:
        raise ValueError(f"weights must lie in [0, {LARGEST_WEIGHT:g}], got {float(weights.min()):g} to {peak:g}")
    if not torch.equal(weights, weights.mT):
        raise ValueError("weights must be symmetric to the last bit, as (w + w.mT) / 2 is")


def valid_or_all(valid: Tensor | None, like: Tensor) -> Tensor:
    """``valid``, or all tokens where it is None: (B, N) bool on the device of ``like``, (B, N, ...).

    Raises:
        ValueError: if it does not fit ``like``.
    """
    shape = like.shape[:2]
    if valid is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    check_token_mask("valid", valid, shape)
    return valid


def check_token_mask(name: str, mask: Tensor, shape: torch.Size) -> None:
    """Raise if this is not one bool per token.

    Raises:
        ValueError: naming the mask and the expected shape.
    """
    if mask.shape != shape or mask.dtype != torch.bool:
        raise ValueError(f"{name} must be {tuple(shape)} bool, got {tuple(mask.shape)} {mask.dtype}")
