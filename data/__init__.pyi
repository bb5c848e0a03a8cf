from .clips import Clip as Clip, UnreadableFrame as UnreadableFrame, open_clip as open_clip
from .detections import Detections as Detections
from .features import FeatureGrid as FeatureGrid
from .geometry import Geometry as Geometry
from .images import as_rgb as as_rgb, read_image as read_image
from .instances import Instances as Instances
from .palette import DAVIS_PALETTE as DAVIS_PALETTE, write_label_map as write_label_map
from .preprocess import Preprocess as Preprocess, plan_geometry as plan_geometry, prepare_image as prepare_image
from .rle import Rle as Rle, RleMasks as RleMasks, decode_mask as decode_mask, encode_masks as encode_masks
from .sources import (
    ClipSource as ClipSource,
    ImageSource as ImageSource,
    InputListing as InputListing,
    find_images as find_images,
    list_input as list_input,
)
from .tracks import Tracks as Tracks
