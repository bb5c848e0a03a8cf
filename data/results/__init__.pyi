from .base import Writer as Writer
from .clip_overlay import draw_contact_sheet as draw_contact_sheet, draw_frame as draw_frame
from .clip_writers import clip_writers as clip_writers
from .overlay import draw_heatmap as draw_heatmap, draw_overlay as draw_overlay
from .pseudo_labels import pseudo_labels as pseudo_labels
from .records import Record as Record
from .store import ResultStore as ResultStore
from .track_labels import track_labels as track_labels
from .writers import image_writers as image_writers
from .ytvis import read_ytvis as read_ytvis, ytvis_dataset as ytvis_dataset
