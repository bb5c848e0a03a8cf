"""Result types, geometry, pictures in and files out. Knows no method."""

from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.images import as_rgb, read_image
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess, plan_geometry, prepare_image
from eigenseg.data.rle import Rle, RleMasks, decode_mask, encode_masks
from eigenseg.data.sources import ImageSource, find_images

__all__ = [
    "FeatureGrid",
    "Geometry",
    "ImageSource",
    "Instances",
    "Preprocess",
    "Rle",
    "RleMasks",
    "as_rgb",
    "decode_mask",
    "encode_masks",
    "find_images",
    "plan_geometry",
    "prepare_image",
    "read_image",
]
