"""Refiners on a CUDA device equal those on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import draw_disc

from eigenseg.segment.refine import BilateralSolver, bilateral_solve, dense_crf, mask_energies, refine_crf

pytestmark = pytest.mark.gpu


def scenes() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    sizes = ((60, 80, 20, 0), (90, 70, 30, 1))
    images = [draw_disc(*size) for size in sizes]
    coarse = [mask[4::8, 4::8].repeat(8, 0).repeat(8, 1) for _, mask in images]
    padded = [np.pad(c, ((0, 8), (0, 8)))[: m.shape[0], : m.shape[1]] for c, (_, m) in zip(coarse, images, strict=True)]
    return [torch.from_numpy(image) for image, _ in images], [torch.from_numpy(mask)[None] for mask in padded]


def test_the_bilateral_solver_equals_that_of_the_cpu() -> None:
    images, masks = scenes()
    here = bilateral_solve(images, masks)
    there = bilateral_solve([image.cuda() for image in images], [mask.cuda() for mask in masks])
    for first, second in zip(here, there, strict=True):
        assert second.soft.is_cuda
        assert first.cells == second.cells
        torch.testing.assert_close(second.soft.cpu(), first.soft, rtol=0, atol=1e-10)
        assert torch.equal(second.iterations.cpu(), first.iterations)
    for first, second in zip(
        BilateralSolver().refine_masks(images, masks),
        BilateralSolver().refine_masks([image.cuda() for image in images], [mask.cuda() for mask in masks]),
        strict=True,
    ):
        assert torch.equal(second.masks.cpu(), first.masks)
        assert second.kept.is_cuda


@pytest.mark.parametrize("compat", [None, "reference"])
def test_the_crf_equals_that_of_the_cpu(compat) -> None:  # type: ignore[no-untyped-def]
    images, masks = scenes()
    energies = [mask_energies(mask.double()) for mask in masks]
    here = dense_crf(images, energies, compat=compat)
    there = dense_crf([image.cuda() for image in images], [given.cuda() for given in energies], compat=compat)
    for first, second in zip(here, there, strict=True):
        torch.testing.assert_close(second.cpu(), first, rtol=0, atol=1e-8)
    for first, second in zip(
        refine_crf(images, masks), refine_crf([i.cuda() for i in images], [m.cuda() for m in masks]), strict=True
    ):
        assert torch.equal(second.masks.cpu(), first.masks)
