"""Results of a run on disk: a resumable store, its log, visualizations and exports."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
