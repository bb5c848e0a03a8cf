"""The results of a run on disk: a store that can be continued, its log, and what is drawn or exported."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
