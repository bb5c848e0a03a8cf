"""Deep Spectral Methods (Melas-Kyriazi et al., CVPR 2022): object localization, and segmentation of objects and regions."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
