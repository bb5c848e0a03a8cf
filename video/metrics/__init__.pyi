from .davis import DavisScore as DavisScore, score_video as score_video
from .foreground import ForegroundIoU as ForegroundIoU
from .slots import ImageSlotScores as ImageSlotScores, SlotScores as SlotScores
