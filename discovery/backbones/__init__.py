"""Backbones: pictures to tokens."""

from eigenseg.discovery.backbones.base import Backbone
from eigenseg.discovery.backbones.color_texture import ColorTexture
from eigenseg.discovery.backbones.vit import ViTBackbone

__all__ = ["Backbone", "ColorTexture", "ViTBackbone"]
