"""Metrics of masks over time: DAVIS's J and F, and those of object-centric learning."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
