from .backbones.base import Backbone as Backbone
from .backbones.color_texture import ColorTexture as ColorTexture
from .backbones.vit import ViTBackbone as ViTBackbone
from .dino_seg import DinoSeg as DinoSeg
from .lost import LOST as LOST
from .method import Method as Method
from .tokencut import TokenCut as TokenCut
