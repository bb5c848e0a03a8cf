"""The video method interface: a clip, and what the method needs of its frames, in; tracks out."""

from __future__ import annotations

from dataclasses import replace
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

        A frame that cannot be read has no masks; ``finish_tracks`` adds which ones these are.

        Args:
            clip: frames, names and sizes.
            frames: ``ClipFeatures``, ``FramePredictor`` or None, see ``needs``.
        """
        ...


def finish_tracks(method: object, clip: Clip, tracks: Any) -> Tracks:
    """Check what a video method returned, and add what the clip knows.

    Frames that could not be read are named in ``metadata["unreadable"]``, with their errors; no tracks without a reason
    get one.

    Args:
        method: that returned them.
        clip: that it was called with.
        tracks: what it returned.

    Raises:
        TypeError: if these are no ``Tracks``.
        ValueError: if they belong to other frames or have another size than the clip, or no frame could be read.
    """
    name = type(method).__name__
    if not isinstance(tracks, Tracks):
        raise TypeError(
            f"{name} returned {type(tracks).__name__}; it must return Tracks (Tracks.empty if there is no object)"
        )
    if tracks.frame_names != clip.frame_names:
        raise ValueError(
            f"{name} returned tracks of {len(tracks.frame_names)} frames for a clip of {len(clip)}; frame_names must be "
            "the clip's, with None in the masks of frames without an object"
        )
    if tracks.image_size != clip.image_size:
        raise ValueError(
            f"{name} returned tracks of {list(tracks.image_size)} for a clip of {list(clip.image_size)} (H, W); masks have "
            "the size of the clip's frames"
        )
    unreadable = {frame: clip.unreadable[frame] for frame in clip.frame_names if frame in clip.unreadable}
    if len(unreadable) == len(clip):
        raise ValueError(f"clip {clip.name}: no frame can be read; the first: {unreadable[clip.frame_names[0]]}")
    added: dict[str, Any] = {"unreadable": unreadable} if unreadable else {}
    if not len(tracks) and not tracks.reason:
        added["reason"] = f"no object; {name} gave no reason"
    return replace(tracks, metadata={**tracks.metadata, **added}) if added else tracks


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
