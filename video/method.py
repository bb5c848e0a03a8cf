"""The video method interface: a clip, and what the method needs of its frames, in; tracks out."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

from eigenseg.data.clips import Clip
from eigenseg.data.tracks import Tracks

# What a video method asks for beside the clip: ``ClipFeatures``, a ``FramePredictor``, or nothing.
Needs = Literal["features", "predictor"] | None
NEEDS: tuple[str | None, ...] = ("features", "predictor", None)


@runtime_checkable
class VideoMethod(Protocol):
    """Interface of video methods. A new one is one file and one yaml.

    ``needs`` is what it is called with: ``"features"``, then it also has ``preprocess`` and ``needs_attention`` as an image
    method does; ``"predictor"``, then its ``base`` is the image method (or model) that predicts frames; or None.
    """

    needs: Needs

    def __call__(self, clip: Clip, frames: Any) -> Tracks:
        """Find the objects of a clip and follow them.

        A frame that cannot be read has no masks and is named in ``metadata["unreadable"]``.

        Args:
            clip: frames, names and sizes.
            frames: ``ClipFeatures``, ``FramePredictor`` or None, see ``needs``.
        """
        ...


def check_needs(method: VideoMethod) -> None:
    """Raise if a video method asks for something that there is not, or lacks what goes with it.

    Raises:
        ValueError: naming the method and the attribute.
    """
    name, needs = type(method).__name__, method.needs
    if needs not in NEEDS:
        raise ValueError(f"{name}.needs must be 'features', 'predictor' or None, got {needs!r}")
    required = {"features": ("preprocess", "needs_attention"), "predictor": ("base",)}.get(needs or "", ())
    for attribute in required:
        if not hasattr(method, attribute):
            raise ValueError(f"{name} has needs={needs!r} and no attribute {attribute!r}")
