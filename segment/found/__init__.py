"""FOUND (Siméoni et al., CVPR 2023): ``found.py`` is the method, ``background.py`` and ``head.py`` are its two stages."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
