"""From a scene to pixels: label maps and frames.

Only additions, multiplications, divisions and comparisons of float64 are used here, which round in the same way everywhere,
so that a scene has the same bytes on every machine. Edges are hard: a pixel belongs to the topmost object that contains its
center, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.scenes.scene import Scene, SceneSettings, Shape, plan_scene

FloatArray = NDArray[np.float64]
# Pixels of a shape (rows and columns) and where they lie in its own coordinates, each (n,).
_Pixels = tuple[NDArray[np.int64], NDArray[np.int64], FloatArray, FloatArray]


def draw_clip(number: int, settings: SceneSettings) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw clip ``number`` of a dataset; it depends on nothing but the arguments.

    Returns:
        frames (T, H, W, 3) uint8 RGB, and labels (T, H, W) uint8: 0 background, an object has one number in all frames.

    Example:
        >>> frames, labels = draw_clip(0, SceneSettings(length=2, size=(48, 64)))
        >>> frames.shape, labels.shape
        ((2, 48, 64, 3), (2, 48, 64))
    """
    scene = plan_scene(number, settings)
    return np.stack(list(draw_frames(scene))), draw_labels(scene)


def draw_labels(scene: Scene) -> NDArray[np.uint8]:
    """Label maps of all frames: (T, H, W) uint8, 0 background."""
    labels = np.zeros((scene.length, *scene.size), dtype=np.uint8)
    for t, label_map in enumerate(labels):
        for k, shape in enumerate(scene.objects, start=1):
            rows, columns, _, _ = _pixels(shape, t, scene.size)
            label_map[rows, columns] = k
    return labels


def draw_frames(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """Frames one by one, each (H, W, 3) uint8 RGB."""
    height, width = scene.size
    centers = np.indices((height, width), dtype=np.float64).reshape(2, -1) + 0.5
    background = scene.background.colors(centers[1], centers[0]).reshape(height, width, 3)
    for shape in scene.clutter:
        _paint(background, shape, 0)
    for t in range(scene.length):
        frame = background.copy()
        for shape in scene.objects:
            _paint(frame, shape, t)
        yield frame


def _paint(frame: NDArray[np.uint8], shape: Shape, t: int) -> None:
    rows, columns, u, v = _pixels(shape, t, frame.shape[:2])
    frame[rows, columns] = shape.texture.colors(u, v)


def _pixels(shape: Shape, t: int, size: tuple[int, ...]) -> _Pixels:
    """The pixels whose centers a shape contains at a frame."""
    (a, _, x), (b, _, y) = shape.path.affine(t).tolist()
    squared = a * a + b * b
    radius = squared**0.5 + 1  # outlines lie within the unit circle; one pixel more for rounding
    top, bottom = (int(np.clip(np.floor(y + side), 0, size[0])) for side in (-radius, radius))
    left, right = (int(np.clip(np.floor(x + side), 0, size[1])) for side in (-radius, radius))
    down = (np.arange(top, bottom) + 0.5 - y)[:, None]
    across = (np.arange(left, right) + 0.5 - x)[None, :]
    # The inverse of [[a, -b], [b, a]].
    u, v = (a * across + b * down) / squared, (a * down - b * across) / squared
    inside = shape.outline.contains(u, v)
    rows, columns = np.nonzero(inside)
    return rows + top, columns + left, u[inside], v[inside]
