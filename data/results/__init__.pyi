from .coco import coco_dataset as coco_dataset
from .log import ResultLog as ResultLog
from .overlay import draw_heatmap as draw_heatmap, draw_overlay as draw_overlay
from .pseudo_labels import pseudo_labels as pseudo_labels
from .store import ResultFolder as ResultFolder
