"""The schedule for GPUs, run on a CPU: the same partition, and one synchronization per check."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toy_graphs import scene, wrong_bits

from eigenseg.discovery.spectral import build_affinity, solve_ncut
from eigenseg.discovery.spectral.deflated import deflate
from eigenseg.discovery.spectral.krylov import EVERY_CYCLE, IN_CHUNKS, Schedule, Widths, iterate, starting_block

POINTS = torch.cat([scene(0, 0.3), scene(1, 1.6), torch.ones(1, 900, 24), scene(2, 1.2)])


class CountSyncs(TorchDispatchMode):
    """Counts operations that would make the host wait for a device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += any(name in func.name() for name in self.WAITING)
        return func(*args, **(kwargs or {}))


def test_chunks_give_the_same_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    affinity = build_affinity(POINTS)
    expected = solve_ncut(affinity)
    monkeypatch.setattr("eigenseg.discovery.spectral.solve.EVERY_CYCLE", IN_CHUNKS)
    result = solve_ncut(affinity)
    assert result.status == expected.status
    assert torch.equal(result.proven, expected.proven)
    assert wrong_bits(result[:2], expected[:2]) == wrong_bits(result[3:], expected[3:]) == 0
    assert {int(passes) for passes in result.passes if passes} <= {9, 13, 17, 21, 25, 29, 33, 37, 41}
    assert (result.passes >= expected.passes).all()


@pytest.mark.parametrize("schedule", [IN_CHUNKS, EVERY_CYCLE])
def test_the_host_synchronizes_once_per_check(monkeypatch: pytest.MonkeyPatch, schedule: Schedule) -> None:
    affinity = build_affinity(POINTS)
    operator, widths, lists = deflate(affinity), Widths(8, 16, 32), []
    first, to_list = starting_block(operator, affinity.features, 16, 0), torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: lists.append(1) or to_list(tensor))
    with CountSyncs() as syncs:
        ritz = iterate(operator, first, 1, 1e-10, 40, widths, 0, schedule)
    cycles = (int(ritz.passes.max()) - 1) // 2
    assert schedule is EVERY_CYCLE or syncs.count == 0
    assert len(lists) == 1 + (cycles - schedule.first) // schedule.then
