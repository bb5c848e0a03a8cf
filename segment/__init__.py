"""Pixels: methods that find several objects or refine masks, and the pipeline that writes them for many pictures."""

from eigenseg.segment.deep_spectral import DeepSpectralSegmentation, multi_region
from eigenseg.segment.deep_spectral_semantics import semantic_segmentation
from eigenseg.segment.extraction import Outcome, Summary, extract, predict_sources
from eigenseg.segment.found import FOUND
from eigenseg.segment.hierarchy import PartHierarchy
from eigenseg.segment.maskcut import MaskCut

__all__ = [
    "FOUND",
    "DeepSpectralSegmentation",
    "MaskCut",
    "Outcome",
    "PartHierarchy",
    "Summary",
    "extract",
    "multi_region",
    "predict_sources",
    "semantic_segmentation",
]
