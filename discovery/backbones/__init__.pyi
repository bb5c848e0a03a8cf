from .base import Backbone as Backbone
from .color_texture import ColorTexture as ColorTexture
from .vit import ViTBackbone as ViTBackbone
