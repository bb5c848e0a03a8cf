"""What is in a clip: a background, clutter, and shapes that move, drawn at random from a seed and the clip's number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eigenseg.data.checks import check_integer
from eigenseg.data.scenes.draws import Draws
from eigenseg.data.scenes.outlines import Outline, draw_outline
from eigenseg.data.scenes.paths import AffinePath, Wave, draw_path
from eigenseg.data.scenes.textures import Texture, draw_texture

# 255 is void in label maps.
_MOST_OBJECTS = 254
# Of the clutter, fractions of the objects' smallest radius: it looks like them, but is half as large at most.
_CLUTTER_RADIUS = (0.15, 0.5)
# Of so many places an object takes the one that is farthest from the others: they overlap, but seldom hide each other.
_PLACES = 2


@dataclass(frozen=True)
class SceneSettings:
    """What all clips of a dataset have in common.

    Args:
        length: frames of a clip; 1 gives an image.
        size: (H, W) in pixels, at least 16.
        objects: the smallest and the largest number of objects, at most 254.
        radius: smallest and largest mean radius of an object, as fractions of the image's shorter side, at most 0.5.
        contrast: of the textures, between 0 (plain colors) and 1.
        clutter: number of small shapes that belong to the background.
        seed: in [0, 2**32); clips of different seeds are different.

    Raises:
        ValueError: naming the argument and what is accepted.
    """

    length: int = 20
    size: tuple[int, int] = (96, 96)
    objects: tuple[int, int] = (2, 4)
    radius: tuple[float, float] = (0.16, 0.3)
    contrast: float = 0.4
    clutter: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "objects", "radius"):  # a yaml holds lists
            pair = getattr(self, name)
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise ValueError(f"{name} must be two numbers, got {pair!r}")
            object.__setattr__(self, name, tuple(pair))
        check_integer("length", self.length, 1)
        for side in self.size:
            check_integer("size", side, 16)
        for count in self.objects:
            check_integer("objects", count, 1)
        if not self.objects[0] <= self.objects[1] <= _MOST_OBJECTS:
            raise ValueError(f"objects must be (min, max) with min <= max <= {_MOST_OBJECTS}, got {self.objects}")
        smallest, largest = self.radius
        if not (_is_number(smallest) and _is_number(largest) and 0.02 <= smallest <= largest <= 0.5):
            raise ValueError(f"radius must be (min, max) with 0.02 <= min <= max <= 0.5, got {self.radius}")
        if not (_is_number(self.contrast) and 0 <= self.contrast <= 1):
            raise ValueError(f"contrast must be a number between 0 and 1, got {self.contrast!r}")
        check_integer("clutter", self.clutter, 0)
        check_integer("seed", self.seed, 0)
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, got {self.seed}")


@dataclass(frozen=True)
class Shape:
    """An outline with a texture that moves along a path."""

    outline: Outline
    texture: Texture
    path: AffinePath


@dataclass(frozen=True)
class Scene:
    """Everything that decides a clip's pixels.

    Args:
        length: number of frames.
        size: (H, W) in pixels.
        background: texture in pixels (x, y).
        clutter: shapes of the background, which stand still.
        objects: shapes numbered from 1; one of a higher number lies on top.
    """

    length: int
    size: tuple[int, int]
    background: Texture
    clutter: tuple[Shape, ...]
    objects: tuple[Shape, ...]


def plan_scene(number: int, settings: SceneSettings) -> Scene:
    """Decide what clip ``number`` of a dataset shows; it does not depend on the other clips.

    Every object's center is inside the image at one frame at least. Where it is before and after follows from its path.

    Example:
        >>> scene = plan_scene(3, SceneSettings(length=1, objects=(2, 2)))
        >>> len(scene.objects), scene.size
        (2, (96, 96))
    """
    check_integer("number", number, 0)
    draws, side = Draws(settings.seed, number), min(settings.size)
    background = draw_texture(draws, settings.contrast, scale=side / 4)
    clutter = tuple(_draw_clutter(draws, settings) for _ in range(settings.clutter))
    objects: list[Shape] = []
    for _ in range(draws.integer(*settings.objects)):
        outline = draw_outline(draws)
        texture = draw_texture(draws, settings.contrast, unlike=background.color)
        radius, seen = draws.uniform(*settings.radius) * side, draws.integer(0, settings.length - 1)
        place = _free_place(draws, settings.size, [one.path for one in objects], seen)
        objects.append(Shape(outline, texture, draw_path(draws, settings.size, radius, seen, place)))
    return Scene(settings.length, settings.size, background, clutter, tuple(objects))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _draw_clutter(draws: Draws, settings: SceneSettings) -> Shape:
    height, width = settings.size
    radius = draws.uniform(*_CLUTTER_RADIUS) * settings.radius[0] * min(height, width)
    x, y, turn = draws.uniform(0, width), draws.uniform(0, height), draws.uniform(0, 6.28)
    fixed = [Wave(value, 0.0, 1.0, 0.0) for value in (x, y, radius)]
    still = AffinePath(fixed[0], fixed[1], fixed[2], angle=turn, spin=0.0)
    return Shape(draw_outline(draws), draw_texture(draws, settings.contrast), still)


def _free_place(draws: Draws, size: tuple[int, int], others: list[AffinePath], t: int) -> tuple[float, float]:
    """Of some random points (x, y) inside the image the one that is farthest from the rims of the others at a frame."""
    height, width = size
    # A tenth of the image away from its border, so that most of an object is inside.
    points = [(draws.uniform(0.1, 0.9) * width, draws.uniform(0.1, 0.9) * height) for _ in range(_PLACES)]

    def distance(point: tuple[float, float]) -> float:
        x, y = point
        rims = [((one.x(t) - x) ** 2 + (one.y(t) - y) ** 2) ** 0.5 - one.radius(t) for one in others]
        return min(rims, default=0.0)

    return max(points, key=distance)
