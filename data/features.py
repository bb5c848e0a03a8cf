"""The features of a batch of images: one token per patch, and the geometry of the patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eigenseg.data.geometry import Geometry, Size


@dataclass(frozen=True)
class FeatureGrid:
    """Tokens of a batch of images whose grids are equal.

    Args:
        tokens: (B, N, D) floating, one per patch, row-major.
        grid: patches (gh, gw), gh * gw = N.
        kind: what the tokens are: ``"key"``, ``"query"``, ``"value"``, ``"token"``, several joined by ``+``, or a
            descriptor's name.
        geometries: one per image; each holds the same grid.
        cls: (B, D) the CLS token of the same kind, where the backbone has one.
        registers: (B, R, D) register tokens of the same kind, where the backbone has them.
        attention: (B, heads, N) softmax attention of CLS to the patches, if requested. Rows sum to less than 1, because
            CLS and registers receive attention too.

    Raises:
        ValueError: if the shapes are inconsistent.
    """

    tokens: Tensor
    grid: Size
    kind: str
    geometries: tuple[Geometry, ...]
    cls: Tensor | None = None
    registers: Tensor | None = None
    attention: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 3 or not self.tokens.is_floating_point():
            raise ValueError(f"tokens must be (B, N, D) floating, got {tuple(self.tokens.shape)} {self.tokens.dtype}")
        batch, count, width = self.tokens.shape
        if self.grid[0] * self.grid[1] != count:
            raise ValueError(f"grid {self.grid[0]}x{self.grid[1]} holds {self.grid[0] * self.grid[1]} tokens, got {count}")
        if len(self.geometries) != batch:
            raise ValueError(f"{batch} images need {batch} geometries, got {len(self.geometries)}")
        for geometry in self.geometries:
            if geometry.grid != self.grid:
                raise ValueError(f"a geometry has grid {geometry.grid}, the tokens have {self.grid}")
        if self.cls is not None and self.cls.shape != (batch, width):
            raise ValueError(f"cls must be {(batch, width)}, got {tuple(self.cls.shape)}")
        if self.registers is not None and (self.registers.ndim != 3 or self.registers.shape[::2] != (batch, width)):
            raise ValueError(f"registers must be ({batch}, R, {width}), got {tuple(self.registers.shape)}")
        if self.attention is not None and (self.attention.ndim != 3 or self.attention.shape[::2] != (batch, count)):
            raise ValueError(f"attention must be ({batch}, heads, {count}), got {tuple(self.attention.shape)}")

    def __repr__(self) -> str:
        (batch, _, width), (rows, columns) = self.tokens.shape, self.grid
        parts = [name for name in ("cls", "registers", "attention") if getattr(self, name) is not None]
        beside = "".join(f", {name}" for name in parts)
        return (
            f"FeatureGrid({batch} x {rows} x {columns} tokens of {width} ({self.kind}{beside}), "
            f"{str(self.tokens.dtype).removeprefix('torch.')} on {self.tokens.device})"
        )

    def __len__(self) -> int:
        return len(self.geometries)

    def __getitem__(self, images: slice) -> FeatureGrid:
        """Some of the images."""
        return replace(
            self,
            tokens=self.tokens[images],
            geometries=self.geometries[images],
            cls=None if self.cls is None else self.cls[images],
            registers=None if self.registers is None else self.registers[images],
            attention=None if self.attention is None else self.attention[images],
        )

    def padded_tokens(self) -> Tensor:
        """Which tokens hold padding: (B, N) bool on the tokens' device."""
        padded = torch.stack([geometry.padded_patches().flatten() for geometry in self.geometries])
        return padded.to(self.tokens.device)

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        tensors = (self.tokens, self.cls, self.registers, self.attention)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def join_features(grids: Sequence[FeatureGrid]) -> FeatureGrid:
    """The images of several batches as one batch; their grids, kinds and devices must be equal.

    Raises:
        ValueError: if there is no batch, or they differ.
    """
    if len({(grid.grid, grid.kind) for grid in grids}) != 1:
        raise ValueError(f"features of one grid and kind can be joined, got {[(grid.grid, grid.kind) for grid in grids]}")

    def join(name: str) -> Tensor | None:
        parts = [getattr(grid, name) for grid in grids]
        return None if parts[0] is None else torch.cat(parts)

    tokens, geometries = torch.cat([grid.tokens for grid in grids]), [one for grid in grids for one in grid.geometries]
    optional = {name: join(name) for name in ("cls", "registers", "attention")}
    return FeatureGrid(tokens, grids[0].grid, grids[0].kind, tuple(geometries), **optional)
