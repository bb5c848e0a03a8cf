"""What a dataset is: named items with images and annotations.

An item is one image, or one video with its frames. There are four kinds of annotation; each metric scores one of them:

=========  =========================================================================================
kind       annotation of an item
=========  =========================================================================================
objects    ``ObjectAnnotation``: boxes, classes and, where annotated, masks
saliency   (H, W) uint8 gray as in the file, 0 is background
semantic   (H, W) uint8 classes, 0 is background, 255 is void
video      ``VideoAnnotation``: label maps of the annotated frames, 0 is background, 255 is void
=========  =========================================================================================
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.geometry import Size
from eigenseg.data.rle import RleMasks
from eigenseg.data.sources import ImageSource

Kind = Literal["objects", "saliency", "semantic", "video"]
# Unlabeled pixels, which every metric ignores.
VOID = 255


class Dataset(Protocol):
    """Named items with images and annotations, in a fixed order. The constructor checks the files that it needs.

    ``images`` may name files that are absent, because predictions can be scored without them;
    ``check_images`` checks them. Instances are pickled into worker processes.
    """

    @property
    def kind(self) -> Kind:
        """What an annotation is, see the table above; most readers have one kind, a class attribute."""
        ...

    @property
    def title(self) -> str:
        """Full name, such as "PASCAL VOC 2007 trainval"."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty where the annotation has none."""
        ...

    @property
    def items(self) -> Sequence[str]:
        """Unique names of the items."""
        ...

    def images(self, index: int) -> list[ImageSource]:
        """The image of an item, which has the item's name, or the frames of a video in order, ``<item>/<frame>``."""
        ...

    def annotation(self, index: int) -> Any:
        """The annotation of an item, see the table above."""
        ...


@dataclass(frozen=True)
class ObjectAnnotation:
    """Annotated objects of one image.

    Args:
        boxes: (n, 4) float64 xyxy half-open in pixels, as annotated: neither clipped nor rounded.
        labels: (n,) int64 indices into the dataset's classes; all 0 if not given.
        image_size: (H, W) in pixels, or None if unknown.
        masks: n masks, or None where only boxes were annotated.
        areas: (n,) float64 pixels as annotated (COCO's small, medium, large go by it); the boxes' areas if not given.
        crowd: (n,) bool, regions with many objects (COCO's iscrowd).
        difficult, truncated: (n,) bool, as PASCAL VOC flags them.
        image_id: the image's id in COCO result files, where it has one.
        scores: (n,) float64, of pseudo-labels; None where people annotated.

    Raises:
        ValueError: if lengths differ, or a box is not finite or has its maximum before its minimum.
    """

    boxes: NDArray[np.float64]
    # Absent arrays are filled in on construction, see above.
    labels: NDArray[np.int64] = None  # type: ignore[assignment]
    image_size: Size | None = None
    masks: RleMasks | None = None
    areas: NDArray[np.float64] = None  # type: ignore[assignment]
    crowd: NDArray[np.bool_] = None  # type: ignore[assignment]
    difficult: NDArray[np.bool_] = None  # type: ignore[assignment]
    truncated: NDArray[np.bool_] = None  # type: ignore[assignment]
    image_id: int | None = None
    scores: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        object.__setattr__(self, "boxes", boxes)
        areas: Any = self.areas
        if areas is None:
            object.__setattr__(self, "areas", (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        for name, dtype in (("labels", np.int64), ("crowd", bool), ("difficult", bool), ("truncated", bool)):
            values = getattr(self, name)
            values = np.zeros(len(boxes)) if values is None else values
            object.__setattr__(self, name, np.asarray(values, dtype=dtype))
        for name in ("labels", "areas", "crowd", "difficult", "truncated", "masks", "scores"):
            values = getattr(self, name)
            if values is not None and len(values) != len(boxes):
                raise ValueError(f"{name} has {len(values)} entries for {len(boxes)} boxes")

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, chosen: NDArray[np.bool_]) -> ObjectAnnotation:
        """Some of the objects: ``chosen`` is (n,) bool."""
        return ObjectAnnotation(
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            image_size=self.image_size,
            masks=None if self.masks is None else self.masks[chosen],
            areas=self.areas[chosen],
            crowd=self.crowd[chosen],
            difficult=self.difficult[chosen],
            truncated=self.truncated[chosen],
            image_id=self.image_id,
            scores=None if self.scores is None else self.scores[chosen],
        )


@dataclass(frozen=True)
class VideoAnnotation:
    """Annotated frames of one video.

    Args:
        frames: names of the annotated frames, as ``Dataset.images`` names them (``<item>/<frame>``), in order.
        labels: (T, H, W) uint8, one number per object over the whole video, 0 background, 255 void.

    Raises:
        ValueError: if there is no frame, or the counts differ.
    """

    frames: tuple[str, ...]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.labels.ndim != 3 or self.labels.dtype != np.uint8:
            raise ValueError(f"labels must be (T, H, W) uint8, got {self.labels.shape} {self.labels.dtype}")
        if not self.frames or len(self.frames) != len(self.labels):
            raise ValueError(f"{len(self.frames)} names of frames for {len(self.labels)} label maps")


def as_boxes(boxes: Any, name: str = "boxes") -> NDArray[np.float64]:
    """Convert boxes to one form, also an empty list.

    Returns:
        (n, 4) float64 xyxy.

    Raises:
        ValueError: if the shape is different, or a box is not finite or its maximum lies before its minimum.
    """
    array = np.asarray(boxes, dtype=np.float64)
    array = array.reshape(-1, 4) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name} must be (n, 4) xyxy, got shape {array.shape}")
    if not np.isfinite(array).all() or (array[:, :2] > array[:, 2:]).any():
        wrong = array[~np.isfinite(array).all(axis=1) | (array[:, 0] > array[:, 2]) | (array[:, 1] > array[:, 3])]
        raise ValueError(f"{name} must be finite xyxy with x0 <= x1 and y0 <= y1, got {wrong[0].tolist()}")
    return array


def require(path: str | os.PathLike[str], title: str, origin: str, setting: str = "root") -> Path:
    """Return the path of a required file or folder.

    Args:
        path: required file or folder.
        title: the dataset's name.
        origin: where to get it.
        setting: of the dataset that decides where it is looked for.

    Raises:
        FileNotFoundError: naming the path, the dataset, the setting and the official source.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{title} needs {path}, which is not there; set dataset.{setting}, or get it from {origin}")
    return path


def require_given(path: str | os.PathLike[str], setting: str, title: str, root: Path) -> Path:
    """Return the path of a file that the user named, relative to the working folder as all paths are.

    Args:
        path: as given.
        setting: of the dataset that names it.
        title: the dataset's name.
        root: of the dataset; a file of this path below it is suggested.

    Raises:
        FileNotFoundError: naming the path and the setting.
    """
    given = Path(path)
    if not given.is_file():
        below = root / given
        hint = f"a path is relative to the working folder; did you mean {below}?" if below.is_file() else "correct it"
        raise FileNotFoundError(f"{title}: dataset.{setting}={given} is no file; {hint}")
    return given


def read_lines(path: Path) -> list[str]:
    """The lines of a list file without blank lines and comments (``#``)."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def check_images(dataset: Dataset, indices: Sequence[int] | None = None) -> None:
    """Check that the images of a dataset, or of some of its items, exist.

    Raises:
        FileNotFoundError: naming the first that is missing, and how many are.
        ValueError: if a frame of a video is not named after its item.
    """
    chosen = range(len(dataset.items)) if indices is None else indices
    by_item = [(dataset.items[i], dataset.images(i)) for i in chosen]
    sources = [source for _, images in by_item for source in images]
    unnamed = [(item, one.name) for item, images in by_item for one in images if not one.name.startswith(f"{item}/")]
    if dataset.kind == "video" and unnamed:
        item, name = unnamed[0]
        raise ValueError(f"{dataset.title}: a frame of {item!r} is named {name!r}; frames must be named {item}/<frame>")
    missing = [source.path for source in sources if not source.path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{dataset.title}: {len(missing)} of {len(sources)} images are missing, the first is {missing[0]}; "
            "complete the dataset, or set dataset.root"
        )
