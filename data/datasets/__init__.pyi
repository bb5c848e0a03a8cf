from .base import (
    VOID as VOID,
    Dataset as Dataset,
    Kind as Kind,
    ObjectAnnotation as ObjectAnnotation,
    VideoAnnotation as VideoAnnotation,
    check_images as check_images,
)
from .coco import CocoInstances as CocoInstances
from .cub import CubBoxes as CubBoxes
from .davis import Davis as Davis
from .fbms import Fbms as Fbms
from .imagenet import ImageNetLocalization as ImageNetLocalization
from .lvis import LvisInstances as LvisInstances
from .moving_shapes import MovingShapes as MovingShapes
from .saliency import SaliencyFolder as SaliencyFolder
from .segtrack import SegTrackV2 as SegTrackV2
from .unlabeled import UnlabeledImages as UnlabeledImages
from .voc import VocDetection as VocDetection
from .voc_segmentation import VocSegmentation as VocSegmentation
from .youtube_vis import YoutubeVis as YoutubeVis
