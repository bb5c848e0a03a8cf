"""Readers of the data sets that unsupervised segmentation is measured on: one file each, see ``base.py``."""

from eigenseg.data.datasets.base import VOID, Dataset, Kind, ObjectTruth, VideoTruth, check_pictures
from eigenseg.data.datasets.coco import CocoInstances
from eigenseg.data.datasets.cub import CubBoxes
from eigenseg.data.datasets.davis import Davis
from eigenseg.data.datasets.fbms import Fbms
from eigenseg.data.datasets.imagenet import ImageNetLocalization
from eigenseg.data.datasets.lvis import LvisInstances
from eigenseg.data.datasets.saliency import SaliencyFolder
from eigenseg.data.datasets.segtrack import SegTrackV2
from eigenseg.data.datasets.voc import VocDetection
from eigenseg.data.datasets.voc_segmentation import VocSegmentation
from eigenseg.data.datasets.youtube_vis import YoutubeVis

__all__ = [
    "VOID",
    "CocoInstances",
    "CubBoxes",
    "Dataset",
    "Davis",
    "Fbms",
    "ImageNetLocalization",
    "Kind",
    "LvisInstances",
    "ObjectTruth",
    "SaliencyFolder",
    "SegTrackV2",
    "VideoTruth",
    "VocDetection",
    "VocSegmentation",
    "YoutubeVis",
    "check_pictures",
]
