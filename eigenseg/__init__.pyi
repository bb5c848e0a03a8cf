from ._version import __version__ as __version__
from .clip_predictor import ClipPredictor as ClipPredictor
from .data.clips import Clip as Clip, open_clip as open_clip
from .data.features import FeatureGrid as FeatureGrid
from .data.geometry import Geometry as Geometry
from .data.images import read_image as read_image
from .data.instances import Instances as Instances
from .data.preprocess import Preprocess as Preprocess
from .data.tracks import Tracks as Tracks
from .discovery.backbones.color_texture import ColorTexture as ColorTexture
from .discovery.lost import LOST as LOST
from .discovery.spectral.affinity import build_affinity as build_affinity
from .discovery.spectral.dense import solve_ncut_dense as solve_ncut_dense
from .discovery.spectral.result import NcutResult as NcutResult
from .discovery.spectral.solve import solve_ncut as solve_ncut
from .discovery.tokencut import TokenCut as TokenCut, tokencut as tokencut
from .predictor import Predictor as Predictor, build_predictor as build_predictor
from .segment.maskcut.maskcut import MaskCut as MaskCut, maskcut as maskcut
from .video.per_frame import PerFrame as PerFrame
