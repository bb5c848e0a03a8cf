from .features import ClipFeatures as ClipFeatures, FrameWindow as FrameWindow
from .frames import FramePredictor as FramePredictor
from .linking import Linker as Linker, link as link
from .method import VideoMethod as VideoMethod
from .per_frame import PerFrame as PerFrame
