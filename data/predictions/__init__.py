"""Readers of predictions in files, whoever wrote them: COCO json, boxes by name, PNG folders, eigenseg's own results."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
