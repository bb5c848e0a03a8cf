"""MaskCut (Wang et al., CutLER, CVPR 2023): ``maskcut.py`` is the method, ``rounds.py`` holds one round of it."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
