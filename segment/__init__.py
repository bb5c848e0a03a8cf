"""Unsupervised segmentation: methods that find several objects, regions and parts, and mask refinement."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
