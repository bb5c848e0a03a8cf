"""What masks over time are worth: DAVIS's J and F, and the measures of object-centric learning."""

from eigenseg.video.metrics.davis import DavisScore, score_video
from eigenseg.video.metrics.foreground import ForegroundIoU
from eigenseg.video.metrics.slots import ImageSlotScores, SlotScores

__all__ = ["DavisScore", "ForegroundIoU", "ImageSlotScores", "SlotScores", "score_video"]
