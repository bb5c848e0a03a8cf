from .coco import CocoAP as CocoAP
from .saliency import TokenCutSaliency as TokenCutSaliency, ToolboxSaliency as ToolboxSaliency
from .semantic import SemanticIoU as SemanticIoU
