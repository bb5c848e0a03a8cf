"""Checks of a backbone's output, shared by the methods that use CLS attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from eigenseg.data.geometry import Size


def check_attention(attention: Any, grid: Size) -> None:
    """Raise if this is not a batch of CLS attention.

    Args:
        attention: (B, heads, N) floating.
        grid: (gh, gw) with gh * gw = N.

    Raises:
        TypeError: if it is not a tensor.
        ValueError: if its shape or dtype is wrong, or it does not fit the grid.
    """
    if not isinstance(attention, Tensor):
        raise TypeError(f"attention must be a torch tensor (B, heads, N), got {type(attention).__name__}")
    if attention.ndim != 3 or not attention.is_floating_point() or not attention.numel():
        raise ValueError(
            f"attention must be (B, heads, N) floating and not empty, got {tuple(attention.shape)} {attention.dtype}"
        )
    if grid[0] * grid[1] != attention.shape[2]:
        raise ValueError(f"grid {grid[0]}x{grid[1]} holds {grid[0] * grid[1]} patches, got {attention.shape[2]}")


def require_attention(attention: Tensor | None, method: str) -> Tensor:
    """Return the attention of a ``FeatureGrid``.

    Raises:
        ValueError: if it is None; the message names the method that needs it.
    """
    if attention is None:
        raise ValueError(f"{method} needs FeatureGrid.attention; call the backbone with attention=True")
    return attention


def facet_error(name: str, needed: str, given: str) -> str:
    """What to say where a trained part meets features of another facet than those that it was trained on."""
    return (
        f"{name} was trained on facet {needed!r}, the backbone gives {given!r}; set backbone.facet={needed}, or "
        f"method.head_facet={given} if that is what the head was trained on"
    )
