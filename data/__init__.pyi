from .detections import Detections as Detections
from .features import FeatureGrid as FeatureGrid
from .geometry import Geometry as Geometry
from .images import as_rgb as as_rgb, read_image as read_image
from .instances import Instances as Instances
from .preprocess import Preprocess as Preprocess, plan_geometry as plan_geometry, prepare_image as prepare_image
from .rle import Rle as Rle, RleMasks as RleMasks, decode_mask as decode_mask, encode_masks as encode_masks
from .sources import ImageSource as ImageSource, find_images as find_images
