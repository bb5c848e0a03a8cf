"""Generated scenes and clips: textured shapes on a textured background, with exact identities; nothing to download.

Shapes move on smooth affine paths (translation, rotation, scale), enter, leave, and occlude each other; clutter is part of
the background. The images are drawn when they are first asked for::

    root/
      96x96_length20_objects2-4_radius0.16-0.3_contrast0.4_clutter12_seed0_revision1/
        00000/00000.png                           clip and frame
      96x96_length1_objects2-4_radius0.16-0.3_contrast0.4_clutter12_seed0_revision1/
        00000.png                                 length=1: image

The pixels depend on nothing but the settings and the clip's number: they are the same on every machine, and a larger
``count`` adds clips behind those that were there. Training and test data are two seeds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eigenseg.data.checks import check_integer
from eigenseg.data.datasets.base import Kind, ObjectAnnotation, VideoAnnotation
from eigenseg.data.files import write_image
from eigenseg.data.rle import RleMasks, encode_masks, mask_areas, mask_boxes
from eigenseg.data.scenes.outlines import OUTLINES
from eigenseg.data.scenes.render import draw_frames, draw_labels
from eigenseg.data.scenes.scene import SceneSettings, plan_scene
from eigenseg.data.sources import ImageSource


class MovingShapes:
    """Generated clips with label maps, or with ``length=1`` images with boxes, masks and classes (the kinds of outline).

    An image's objects are ordered from the lowest to the topmost; one that is hidden completely is not annotated.
    Several processes may draw into one folder: files appear complete, and all processes write the same pixels.

    Args:
        count: number of clips or images.
        length: frames of a clip; 1 gives images, which are scored by another metric (``evaluation=coco_masks``).
        size: (H, W) in pixels, at least 16.
        objects: the smallest and the largest number of objects, at most 254.
        radius: smallest and largest mean radius of an object, as fractions of the image's shorter side, at most 0.5.
        contrast: of the textures, between 0 (plain colors) and 1.
        clutter: number of small shapes that belong to the background.
        seed: in [0, 2**32); other seeds give other clips.
        root: folder of the images; the folder ``eigenseg/moving_shapes`` of the user's cache by default.

    Raises:
        ValueError: if a setting is wrong, naming it.

    Example:
        >>> dataset = MovingShapes(count=2, length=3, size=(32, 48), seed=1)
        >>> dataset.items, dataset.annotation(0).labels.shape
        (['00000', '00001'], (3, 32, 48))
    """

    kind: Kind = "video"
    # Raised when the pixels change, so that no older image is taken for a new one.
    revision = 1

    def __init__(
        self,
        count: int = 100,
        length: int = 20,
        size: Sequence[int] = (96, 96),
        objects: Sequence[int] = (2, 4),
        radius: Sequence[float] = (0.16, 0.3),
        contrast: float = 0.4,
        clutter: int = 12,
        seed: int = 0,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        check_integer("count", count, 1)
        self.settings = settings = SceneSettings(length, size, objects, radius, contrast, clutter, seed)  # type: ignore[arg-type]
        height, width = settings.size
        shapes = f"objects{_range(settings.objects)}_radius{_range(settings.radius)}_contrast{float(contrast)!r}"
        drawn = f"{height}x{width}_length{length}_{shapes}_clutter{clutter}_seed{seed}_revision{self.revision}"
        self.root = _cache_folder() if root is None else Path(root)
        self._folder = self.root / drawn
        self.items = [f"{number:05d}" for number in range(count)]
        self.title = f"moving shapes, {width} x {height} pixels, {length} frames, seed {seed}"
        self.classes: tuple[str, ...] = ()
        if length == 1:
            self.kind, self.classes = "objects", OUTLINES
            self.items = [f"{item}.png" for item in self.items]
            self.title = f"shapes, {width} x {height} pixels, seed {seed}"

    def images(self, index: int) -> list[ImageSource]:
        """The image, or the frames of a clip; those that are not there are drawn first.

        Raises:
            OutputError: if they cannot be written.
        """
        item = self.items[index]
        names = [item] if self.kind == "objects" else [f"{item}/{t:05d}.png" for t in range(self.settings.length)]
        sources = [ImageSource(self._folder / name, name) for name in names]
        if not all(source.path.is_file() for source in sources):
            for source, frame in zip(sources, draw_frames(plan_scene(index, self.settings)), strict=True):
                # Another process may have written it by now; a second file would be newer, and results of the first stale.
                if not source.path.is_file():
                    write_image(source.path, frame)
        return sources

    def annotation(self, index: int) -> ObjectAnnotation | VideoAnnotation:
        """Label maps of all frames, or the objects of an image."""
        scene = plan_scene(index, self.settings)
        labels = draw_labels(scene)
        if self.kind == "video":
            return VideoAnnotation(tuple(f"{self.items[index]}/{t:05d}.png" for t in range(scene.length)), labels)
        numbers = [int(number) for number in np.unique(labels) if number]
        rles = encode_masks(labels == np.array(numbers, dtype=np.uint8)[:, None, None])
        return ObjectAnnotation(
            boxes=mask_boxes(rles),
            labels=np.array([OUTLINES.index(scene.objects[number - 1].outline.kind) for number in numbers], dtype=np.int64),
            image_size=scene.size,
            masks=RleMasks(rles, scene.size),
            areas=np.array(mask_areas(rles), dtype=np.float64),
        )


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]!r}-{pair[1]!r}"


def _cache_folder() -> Path:
    """As the XDG base directory specification names it."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "eigenseg" / "moving_shapes"
