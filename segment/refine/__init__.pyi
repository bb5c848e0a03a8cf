from .apply import MaskRefiner as MaskRefiner, refine_instances as refine_instances
from .base import Refined as Refined, Refiner as Refiner
from .bilateral import (
    BilateralParameters as BilateralParameters,
    BilateralSolver as BilateralSolver,
    bilateral_solve as bilateral_solve,
)
from .crf import (
    DEEP_SPECTRAL as DEEP_SPECTRAL,
    MASKCUT as MASKCUT,
    CRFParameters as CRFParameters,
    DenseCRF as DenseCRF,
    dense_crf as dense_crf,
    mask_energies as mask_energies,
    refine_crf as refine_crf,
)
