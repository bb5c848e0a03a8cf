"""What a method is: features of a batch in, objects of every image out."""

from __future__ import annotations

from typing import Protocol

from eigenseg.data import FeatureGrid, Instances, Preprocess


class Method(Protocol):
    """One file and one yaml make a new one; any object with these three members will do.

    ``preprocess`` is the published way of fitting pictures to the grid; the backbone's and the user's wishes go before it.
    ``needs_attention`` asks the backbone for ``FeatureGrid.attention``; ``needs_colours = True``, if there, asks for
    ``FeatureGrid.colours``.
    """

    preprocess: Preprocess
    needs_attention: bool

    def __call__(self, features: FeatureGrid) -> list[Instances]:
        """Find the objects of B images, in original pixels; an image without one gets ``Instances.empty`` with a reason."""
        ...
