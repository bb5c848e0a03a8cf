"""Readers of the benchmark datasets of unsupervised segmentation, one file each; see ``base.py``."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
