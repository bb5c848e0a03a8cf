from .backbones.base import Backbone as Backbone
from .backbones.color_texture import ColorTexture as ColorTexture
from .backbones.vit import ViTBackbone as ViTBackbone
from .dino_seg import DinoSeg as DinoSeg
from .extractor import FeatureExtractor as FeatureExtractor
from .lost import LOST as LOST
from .method import Method as Method
from .predicting import (
    FeaturePredictor as FeaturePredictor,
    ImageModel as ImageModel,
    ImagePredictor as ImagePredictor,
    PlainImage as PlainImage,
)
from .tokencut import TokenCut as TokenCut
from .trainable import Samples as Samples, Trainable as Trainable, as_trainable as as_trainable
