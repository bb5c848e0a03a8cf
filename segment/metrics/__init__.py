"""What masks are worth: average precision, saliency measures, semantic IoU."""

from eigenseg.segment.metrics.coco import CocoAP
from eigenseg.segment.metrics.saliency import TokenCutSaliency, ToolboxSaliency
from eigenseg.segment.metrics.semantic import SemanticIoU

__all__ = ["CocoAP", "SemanticIoU", "TokenCutSaliency", "ToolboxSaliency"]
