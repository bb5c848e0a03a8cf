"""Position tables equal the published formula bit by bit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.discovery.backbones.positions import resize_positions


def published(table: Tensor, height: int, width: int, patch: int) -> Tensor:
    """DINO's formula for an image of (height, width) pixels, with its own arguments."""
    count = table.shape[1] - 1
    if (height // patch) * (width // patch) == count and height == width:
        return table
    rows, columns = height // patch + 0.1, width // patch + 0.1
    side = int(math.sqrt(count))
    image = table[:, 1:].reshape(1, side, side, table.shape[2]).permute(0, 3, 1, 2)
    resized = F.interpolate(image, scale_factor=(rows / math.sqrt(count), columns / math.sqrt(count)), mode="bicubic")
    assert resized.shape[2:] == (int(rows), int(columns))
    return torch.cat([table[:, :1], resized.permute(0, 2, 3, 1).reshape(1, -1, table.shape[2])], dim=1)


@pytest.mark.parametrize("side", [14, 28])
@pytest.mark.parametrize(
    "grid", [(14, 14), (28, 28), (30, 30), (30, 53), (53, 30), (1, 17), (17, 1), (1, 1), (60, 60), (7, 9)]
)
def test_the_dino_rule_is_bit_equal_to_the_published_formula(side: int, grid: tuple[int, int]) -> None:
    table = torch.randn(1, 1 + side**2, 12, generator=torch.Generator().manual_seed(side))
    expected = published(table, grid[0] * 16, grid[1] * 16, 16)
    assert torch.equal(resize_positions(table, grid, prefix=1, rule="dino"), expected)


def test_tables_of_the_published_code_are_reproduced(test_data: Path) -> None:
    for patch in (8, 16):
        golden = np.load(test_data / "golden_reference" / f"dino_tiny_p{patch}.npz")
        table = torch.from_numpy(golden["weights/pos_embed"])
        for i in (0, 2):
            ours = resize_positions(table, tuple(golden[f"grid_{i}"]), prefix=1, rule="dino")
            np.testing.assert_array_equal(ours[:, golden[f"pos_embed_rows_{i}"]].numpy(), golden[f"pos_embed_{i}"])


def test_the_rules_differ_away_from_the_trained_grid_and_coincide_on_it() -> None:
    table = torch.randn(1, 1 + 14**2, 6, generator=torch.Generator().manual_seed(0))
    dino, timm = (resize_positions(table, (20, 30), 1, rule) for rule in ("dino", "timm"))
    assert (dino - timm).abs().max() > 0.1
    assert torch.equal(resize_positions(table, (14, 14), 1, "timm"), table)


def test_the_entry_of_cls_is_kept_and_a_table_without_it_holds_only_patches() -> None:
    table = torch.randn(1, 1 + 14**2, 6, generator=torch.Generator().manual_seed(0))
    with_cls = resize_positions(table, (9, 9), prefix=1, rule="dino")
    assert torch.equal(with_cls[:, 0], table[:, 0])
    assert torch.equal(with_cls[:, 1:], resize_positions(table[:, 1:], (9, 9), prefix=0, rule="dino"))
