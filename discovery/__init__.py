"""What is an object here? Backbones, token graphs, the spectral solver, and methods that work on tokens."""

from eigenseg.discovery.backbones import Backbone, ColorTexture, ViTBackbone
from eigenseg.discovery.corloc import CorLoc
from eigenseg.discovery.deep_spectral import DeepSpectral, localise
from eigenseg.discovery.dino_seg import DinoSeg
from eigenseg.discovery.localization import Localization
from eigenseg.discovery.lost import LOST
from eigenseg.discovery.method import Method
from eigenseg.discovery.partition import bipartition, component_of
from eigenseg.discovery.spectral import NcutResult, build_affinity, solve_ncut, solve_ncut_dense
from eigenseg.discovery.tokencut import TokenCut

__all__ = [
    "LOST",
    "Backbone",
    "ColorTexture",
    "CorLoc",
    "DeepSpectral",
    "DinoSeg",
    "Localization",
    "Method",
    "NcutResult",
    "TokenCut",
    "ViTBackbone",
    "bipartition",
    "build_affinity",
    "component_of",
    "localise",
    "solve_ncut",
    "solve_ncut_dense",
]
