"""eigenseg: unsupervised segmentation and object discovery.

::

    from eigenseg import Predictor
    predictor = Predictor.from_config("tokencut", backbone="dino_vits16")
    instances = predictor("dog.jpg")

Names are loaded when they are first used, so that ``import eigenseg`` costs nothing; ``__init__.pyi`` lists them.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
