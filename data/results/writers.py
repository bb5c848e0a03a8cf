"""The files that a run leaves beside its records, one writer for each kind of file.

::

    labels/<name>.png     label map, 0 is background (16 bits above 255 instances)
    overlays/<name>.jpg   visualization, with the eigenvector beside it if ``heatmap`` is set
    masks/<name>/000.png  one mask per instance, 0 or 255
    saliency/<name>.png   8-bit foreground map, soft where the method or its refinement provides one
    arrays/<name>.npz     large arrays of extras and metadata; one file per image, also if it has none

``<name>`` is the image's path below the input, suffix included: ``dogs/rex.jpg`` gives ``labels/dogs/rex.jpg.png``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eigenseg.data.files import write_image
from eigenseg.data.images import ImageArray
from eigenseg.data.results.arrays import ArrayWriter
from eigenseg.data.results.base import Writer, require_pixels
from eigenseg.data.results.overlay import draw_heatmap, draw_overlay
from eigenseg.data.results.records import Record

SALIENCY = "metadata.saliency"
_EIGENVECTOR = "extras.eigenvector.0"  # the heat map shows that of the first instance


class LabelWriter(Writer):
    """``labels/<name>.png``."""

    name = "labels"

    def paths(self, record: Record) -> list[str]:
        """The label map."""
        return [f"labels/{record.name}.png"]

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write it."""
        depth = np.uint8 if record.count <= 255 else np.uint16
        write_image(root / self.paths(record)[0], record.instances().label_map().astype(depth))


class OverlayWriter(Writer):
    """``overlays/<name>.jpg``.

    Args:
        heatmap: draw the eigenvector of the first instance beside the overlay.
    """

    name = "overlays"
    needs_pixels = True

    def __init__(self, heatmap: bool = False) -> None:
        self.heatmap = heatmap
        self.settings = {"heatmap": heatmap}

    def paths(self, record: Record) -> list[str]:
        """The visualization."""
        return [f"overlays/{record.name}.jpg"]

    def needs_arrays(self, record: Record) -> tuple[str, ...]:
        """The eigenvector, if it is drawn."""
        return (_EIGENVECTOR,) if self.heatmap and _EIGENVECTOR in record.array_shapes() else ()

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Draw and write it."""
        instances = record.instances()
        image: ImageArray = require_pixels(record, pixels)
        overlay = draw_overlay(image, instances)
        if self.heatmap:
            overlay = np.concatenate([overlay, draw_heatmap(image, instances)], axis=1)
        write_image(root / self.paths(record)[0], overlay)


class MaskWriter(Writer):
    """``masks/<name>/000.png`` and so on."""

    name = "masks"

    def paths(self, record: Record) -> list[str]:
        """One file per instance."""
        return [f"masks/{record.name}/{i:03d}.png" for i in range(record.count)]

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write them."""
        masks = record.instances().masks
        for i, path in enumerate(self.paths(record)):
            write_image(root / path, np.asarray(masks[i]).astype(np.uint8) * 255)


class SaliencyWriter(Writer):
    """``saliency/<name>.png``.

    Args:
        soft_only: write soft maps alone; a hard one is the union of the masks, which the record holds.
    """

    name = "saliency"

    def __init__(self, soft_only: bool = False) -> None:
        self.soft_only = self.needs_content = soft_only
        self.settings = {"soft_only": soft_only}

    def paths(self, record: Record) -> list[str]:
        """The foreground map."""
        soft = SALIENCY in record.array_shapes()
        return [f"saliency/{record.name}.png"] if soft or not self.soft_only else []

    def needs_arrays(self, record: Record) -> tuple[str, ...]:
        """The soft map, if there is one."""
        return (SALIENCY,) if SALIENCY in record.array_shapes() else ()

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        """Write it."""
        for path in self.paths(record):
            write_image(root / path, record.instances().saliency_map())


def image_writers(
    labels: bool = True,
    overlays: bool = True,
    heatmap: bool = False,
    masks: bool = False,
    saliency: bool = False,
    arrays: bool = False,
) -> list[Writer]:
    """The writers that settings of ``output`` ask for; ``heatmap`` only changes the overlays."""
    chosen: list[tuple[bool, Writer]] = [
        (labels, LabelWriter()),
        (masks, MaskWriter()),
        (saliency, SaliencyWriter()),
        (arrays, ArrayWriter()),
        (overlays, OverlayWriter(heatmap)),
    ]
    return [writer for wanted, writer in chosen if wanted]
