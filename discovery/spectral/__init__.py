"""Normalized cuts of token graphs: ``build_affinity`` makes the graph, ``solve_ncut`` its smallest eigenpairs."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
