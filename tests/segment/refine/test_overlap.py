"""Separated masks equal the rule written out pixel by pixel, and have the properties that it promises."""

from __future__ import annotations

import pytest
import torch

from eigenseg.segment.refine.overlap import separate


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("depths", [None, [0, 1, 0, 1, 2]])
def test_separated_masks_are_those_of_the_rule_pixel_by_pixel(seed: int, depths: list[int] | None) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks, before = (torch.rand(5, 9, 11, generator=generator) < 0.5 for _ in range(2))
    soft = (torch.rand(5, 9, 11, generator=generator, dtype=torch.float64) * 4).round() / 4  # values tie
    scores = [0.5, 0.9, 0.5, 0.1, 0.9]
    result = separate(masks, before, soft, scores, depths)
    for y in range(9):
        for x in range(11):
            kept = set()
            for depth in set(depths or [0]):
                claims = [i for i in range(5) if masks[i, y, x] and (depths is None or depths[i] == depth)]
                holders = [i for i in claims if before[i, y, x]]
                kept |= set(holders or sorted(claims, key=lambda i: (-float(soft[i, y, x]), -scores[i], i))[:1])
            assert set(result[:, y, x].nonzero()[:, 0].tolist()) == kept


def test_nothing_is_shared_anew_and_nothing_is_lost() -> None:
    generator = torch.Generator().manual_seed(9)
    masks, before = (torch.rand(4, 20, 30, generator=generator) < 0.4 for _ in range(2))
    result = separate(masks, before, torch.rand(4, 20, 30, generator=generator), [0.1, 0.2, 0.3, 0.4])
    assert torch.equal(result.any(dim=0), masks.any(dim=0))
    assert not (result & ~masks).any()
    assert not (masks & before & ~result).any()  # only pixels by which a mask grew are taken
    for i in range(4):
        for j in range(i):
            assert not (result[i] & result[j] & ~(before[i] & before[j])).any()
    assert torch.equal(separate(before, before, before.double(), [1.0] * 4), before)
