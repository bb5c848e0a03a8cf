from .deep_spectral.deep_spectral import DeepSpectral as DeepSpectral
from .found.found import FOUND as FOUND
from .maskcut.maskcut import MaskCut as MaskCut
from .parts.hierarchy import PartHierarchy as PartHierarchy
