from .maskcut import MaskCut as MaskCut
from .rounds import StopRule as StopRule
from .scores import score_round as score_round
