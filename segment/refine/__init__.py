"""Masks moved to the edges of the picture: the bilateral solver and the dense CRF, behind one small protocol."""

from eigenseg.segment.refine.base import Refined, Refiner
from eigenseg.segment.refine.bilateral import BilateralSolver, bilateral_solve
from eigenseg.segment.refine.crf import (
    DEEP_SPECTRAL,
    MASKCUT,
    CRFParameters,
    DenseCRF,
    dense_crf,
    mask_energies,
    refine_crf,
)

__all__ = [
    "DEEP_SPECTRAL",
    "MASKCUT",
    "BilateralSolver",
    "CRFParameters",
    "DenseCRF",
    "Refined",
    "Refiner",
    "bilateral_solve",
    "dense_crf",
    "mask_energies",
    "refine_crf",
]
