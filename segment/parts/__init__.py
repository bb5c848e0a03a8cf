"""Parts of objects: ``hierarchy.py`` is the method, ``merging.py`` the clustering."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
