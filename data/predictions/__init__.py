"""Readers of prediction files: COCO json, boxes by name, PNG folders and eigenseg's own results."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
