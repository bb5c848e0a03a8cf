"""Training: ``loop.py`` is one loop over any ``Trainable``; the files beside it own one step each."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
