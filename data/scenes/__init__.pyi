from .outlines import OUTLINES as OUTLINES, Outline as Outline
from .paths import AffinePath as AffinePath
from .render import draw_clip as draw_clip, draw_frames as draw_frames, draw_labels as draw_labels
from .scene import Scene as Scene, SceneSettings as SceneSettings, Shape as Shape, plan_scene as plan_scene
