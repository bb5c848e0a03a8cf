"""The files that a run leaves for clips, one writer for each kind of file.

::

    labels/<clip>/<frame>.png           label map in the colors of DAVIS; row + 1 of the track, 0 is background
    overlays/<clip>.mp4                 visualization as a video
    overlays/<clip>.jpg                 visualization of a few frames on one sheet
    masks/<clip>/<track id>/<frame>.png 0 or 255, in the frames where the track is present
    saliency/<clip>/<frame>.png         0 or 255, all tracks together
    arrays/<clip>.npz                   large arrays of extras and metadata

``<clip>`` is its path below the input, ``<frame>`` the frame's name. A frame that could not be read has an empty label map
and an empty saliency map: then every frame has its file, and an evaluation counts nothing there instead of stopping. The
video repeats the frame before it, and is black until the first frame that could be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigenseg.data.files import write_image
from eigenseg.data.images import ImageArray
from eigenseg.data.palette import write_label_map
from eigenseg.data.results.arrays import ArrayWriter
from eigenseg.data.results.base import Writer, require_pixels
from eigenseg.data.results.records import Kind, Record
from eigenseg.data.rle import decode_mask
from eigenseg.data.tracks import Tracks

if TYPE_CHECKING:
    from eigenseg.data.clips import Clip
    from eigenseg.data.results.clip_overlay import ContactSheet

_FRAME_RATE = 24.0  # frames per second of a clip without a rate: that of DAVIS and of film


class ClipLabelWriter(Writer):
    """``labels/<clip>/<frame>.png``."""

    name = "labels"
    kind: Kind = "clip"

    def paths(self, record: Record) -> list[str]:
        """One file per frame."""
        return _frame_paths("labels", record)

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write them."""
        for path, labels in zip(self.paths(record), record.tracks().label_maps(), strict=True):
            write_label_map(root / path, labels)


class ClipOverlayWriter(Writer):
    """``overlays/<clip>.mp4`` and ``overlays/<clip>.jpg``."""

    name = "overlays"
    kind: Kind = "clip"
    needs_pixels = True

    def paths(self, record: Record) -> list[str]:
        """The video and the sheet."""
        return [f"overlays/{record.name}.mp4", f"overlays/{record.name}.jpg"]

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Draw and write both."""
        # Imported here, because a run over images needs no video library.
        from eigenseg.data.results.clip_overlay import ContactSheet
        from eigenseg.data.video_files import write_video

        clip: Clip = require_pixels(record, pixels)
        sheet = ContactSheet(clip.frame_names, clip.image_size)
        video, still = (root / path for path in self.paths(record))
        write_video(video, _overlays(clip, record.tracks(), sheet), clip.frame_rate or _FRAME_RATE)
        write_image(still, sheet.image)


class ClipMaskWriter(Writer):
    """``masks/<clip>/<track id>/<frame>.png``."""

    name = "masks"
    kind: Kind = "clip"

    def paths(self, record: Record) -> list[str]:
        """One file per track and frame in which it is present."""
        tracks = record.tracks()
        return [f"masks/{record.name}/{tracks.track_ids[k]}/{tracks.frame_names[t]}.png" for k, t in _shown(tracks)]

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write them."""
        tracks = record.tracks()
        for path, (k, t) in zip(self.paths(record), _shown(tracks), strict=True):
            rle = tracks.masks[k][t]
            assert rle is not None
            write_image(root / path, decode_mask(rle).astype(np.uint8) * 255)


class ClipSaliencyWriter(Writer):
    """``saliency/<clip>/<frame>.png``."""

    name = "saliency"
    kind: Kind = "clip"

    def paths(self, record: Record) -> list[str]:
        """One file per frame."""
        return _frame_paths("saliency", record)

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write them."""
        for path, frame in zip(self.paths(record), record.tracks().frames(), strict=True):
            write_image(root / path, frame.saliency_map())


def clip_writers(
    labels: bool = True, overlays: bool = True, masks: bool = False, saliency: bool = False, arrays: bool = False
) -> list[Writer]:
    """The writers that settings of ``output`` ask for."""
    chosen: list[tuple[bool, Writer]] = [
        (labels, ClipLabelWriter()),
        (masks, ClipMaskWriter()),
        (saliency, ClipSaliencyWriter()),
        (arrays, ArrayWriter("clip")),
        (overlays, ClipOverlayWriter()),
    ]
    return [writer for wanted, writer in chosen if wanted]


def _frame_paths(folder: str, record: Record) -> list[str]:
    return [f"{folder}/{record.name}/{frame}.png" for frame in record.tracks().frame_names]


def _shown(tracks: Tracks) -> list[tuple[int, int]]:
    """Track and frame of every mask."""
    return [(k, t) for k, masks in enumerate(tracks.masks) for t, rle in enumerate(masks) if rle is not None]


def _overlays(clip: Clip, tracks: Tracks, sheet: ContactSheet) -> Iterator[ImageArray]:
    """Drawn frames, which are added to a sheet on their way, so that a video is decoded once."""
    from eigenseg.data.clips import UnreadableFrame
    from eigenseg.data.results.clip_overlay import draw_frame

    shown: ImageArray = np.zeros((*tracks.image_size, 3), dtype=np.uint8)
    for t in range(len(tracks.frame_names)):
        drawn = None
        with contextlib.suppress(UnreadableFrame):  # the frame before it is shown again
            drawn = shown = draw_frame(clip[t], tracks, t)
        sheet.add(t, drawn)
        yield shown
