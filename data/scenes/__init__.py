"""Generated scenes and clips with exact identities: textured shapes that move on smooth affine paths."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
