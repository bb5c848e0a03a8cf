"""Videos: methods on clips, linking of objects over frames, and metrics."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
