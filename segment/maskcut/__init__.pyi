from .maskcut import MaskCut as MaskCut
from .rounds import StopRule as StopRule
