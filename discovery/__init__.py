"""Unsupervised object discovery: backbones, token graphs, the spectral solver, and methods that work on tokens."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
