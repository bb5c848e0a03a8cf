"""Video metrics: DAVIS J and F, foreground IoU, and the metrics of object-centric learning."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
