"""Pixels: what refines masks, and the pipeline that writes them for many pictures."""

from eigenseg.segment.extraction import Outcome, Summary, extract, predict_sources

__all__ = ["Outcome", "Summary", "extract", "predict_sources"]
