"""The pipeline engine: bounded stages, batches by bucket, a budget of bytes, and the time that every stage takes."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
