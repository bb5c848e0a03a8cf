"""Class-agnostic detector (CutLER's second stage): ``detector.py`` is the method, ``model.py`` its network."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
