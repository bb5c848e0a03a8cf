"""eigenseg: unsupervised segmentation and object discovery.

::

    from eigenseg import Predictor
    predictor = Predictor.from_config("tokencut", backbone="dino_vits16")
    instances = predictor("dog.jpg")

Names are loaded when they are first used, so that ``import eigenseg`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eigenseg._version import __version__

if TYPE_CHECKING:
    from eigenseg.data import FeatureGrid, Geometry, Instances, Preprocess, read_image
    from eigenseg.discovery.lost import LOST
    from eigenseg.discovery.spectral import NcutResult, build_affinity, solve_ncut, solve_ncut_dense
    from eigenseg.discovery.tokencut import TokenCut, tokencut
    from eigenseg.predictor import Predictor
    from eigenseg.segment.maskcut import MaskCut, maskcut

_HOMES = {
    "FeatureGrid": "eigenseg.data",
    "Geometry": "eigenseg.data",
    "Instances": "eigenseg.data",
    "Preprocess": "eigenseg.data",
    "read_image": "eigenseg.data",
    "LOST": "eigenseg.discovery.lost",
    "MaskCut": "eigenseg.segment.maskcut",
    "TokenCut": "eigenseg.discovery.tokencut",
    "maskcut": "eigenseg.segment.maskcut",
    "tokencut": "eigenseg.discovery.tokencut",
    "NcutResult": "eigenseg.discovery.spectral",
    "build_affinity": "eigenseg.discovery.spectral",
    "solve_ncut": "eigenseg.discovery.spectral",
    "solve_ncut_dense": "eigenseg.discovery.spectral",
    "Predictor": "eigenseg.predictor",
}

__all__ = [
    "LOST",
    "FeatureGrid",
    "Geometry",
    "Instances",
    "MaskCut",
    "NcutResult",
    "Predictor",
    "Preprocess",
    "TokenCut",
    "__version__",
    "build_affinity",
    "maskcut",
    "read_image",
    "solve_ncut",
    "solve_ncut_dense",
    "tokencut",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'eigenseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
