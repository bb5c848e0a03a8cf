"""The result of every method: objects of one image, as masks, boxes and scores in original pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data import supervision
from eigenseg.data.comparison import equal_extras, equal_values
from eigenseg.data.rle import BoolArray, Rle, RleMasks, encode_masks, mask_areas, mask_boxes

# Larger bool masks are stored as RLE: 64 MB are five objects in a 12-megapixel photograph, and there may be a hundred.
DENSE_BYTES = 64 * 2**20
# Unsupervised methods have a single class: foreground.
FOREGROUND = "fg"


@dataclass(frozen=True)
class Instances:
    """Objects of one image. All arrays are NumPy.

    Args:
        masks: (n, H, W) bool, or ``RleMasks``; arrays above 64 MB are encoded on construction.
        scores: (n,) float32 in [0, 1].
        boxes: (n, 4) float32, xyxy half-open in pixels of the image, inside it.
        image_size: (H, W) in pixels.
        labels: (n,) int64 indices into ``names``; all 0 if not given.
        names: names of the classes; one, ``"fg"``, if not given.
        extras: values per instance: each entry has length n (seed, eigenvalue, gap, source...).
        metadata: values of the image as a whole, such as ``reason``: why there are no objects, or ``saliency``: (H, W)
            float32 in [0, 1], a soft foreground map.

    Raises:
        TypeError: if the masks are of another type.
        ValueError: if lengths, shapes or ranges are inconsistent.

    Example:
        >>> mask = np.zeros((4, 6), dtype=bool)
        >>> mask[1:3, 2:5] = True
        >>> instances = Instances(mask[None], np.array([0.9]), np.array([[2, 1, 5, 3]]), (4, 6))
        >>> len(instances), instances.areas().tolist(), instances.label_map()[1].tolist()
        (1, [6], [0, 0, 1, 1, 1, 0])
    """

    masks: BoolArray | RleMasks
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    image_size: tuple[int, int]
    labels: NDArray[np.int64] = None  # type: ignore[assignment]  # zeros are filled in
    names: tuple[str, ...] = (FOREGROUND,)
    extras: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        masks: Any = self.masks
        if not isinstance(masks, (np.ndarray, RleMasks)):
            raise TypeError(f"masks must be a NumPy array (n, H, W) or RleMasks, got {type(masks).__name__}")
        count = len(self.masks)
        _set(self, "scores", np.asarray(self.scores, dtype=np.float32))
        _set(self, "boxes", np.asarray(self.boxes, dtype=np.float32))
        labels: Any = self.labels
        _set(self, "labels", np.zeros(count, np.int64) if labels is None else np.asarray(labels, np.int64))
        if self.masks.shape != (count, *self.image_size):
            raise ValueError(f"masks must be (n, {self.image_size[0]}, {self.image_size[1]}), got {self.masks.shape}")
        if self.masks.dtype != bool:
            raise ValueError(f"masks must be bool, got {self.masks.dtype}; threshold soft masks first")
        for name, shape in (("scores", (count,)), ("boxes", (count, 4)), ("labels", (count,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape} for {count} masks, got {getattr(self, name).shape}")
        for name, values in self.extras.items():
            if len(values) != count:
                raise ValueError(f"extras[{name!r}] has {len(values)} entries for {count} masks")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError(f"scores must lie in [0, 1], got {self.scores.tolist()}")
        height, width = self.image_size
        limits = np.array([width, height, width, height], dtype=np.float32)
        if not ((self.boxes >= 0) & (self.boxes <= limits)).all() or (self.boxes[:, :2] > self.boxes[:, 2:]).any():
            raise ValueError(f"boxes must be xyxy inside {width}x{height} pixels, got {self.boxes.tolist()}")
        if not ((self.labels >= 0) & (self.labels < len(self.names))).all():
            raise ValueError(f"labels must index the {len(self.names)} names, got {self.labels.tolist()}")
        if isinstance(self.masks, np.ndarray) and self.masks.nbytes > DENSE_BYTES:
            _set(self, "masks", RleMasks(encode_masks(self.masks), self.image_size, checked=True))

    @classmethod
    def empty(cls, image_size: tuple[int, int], reason: str, **metadata: Any) -> Instances:
        """No objects; ``reason`` says why in one sentence."""
        return cls(
            masks=np.zeros((0, *image_size), dtype=bool),
            scores=np.zeros(0, dtype=np.float32),
            boxes=np.zeros((0, 4), dtype=np.float32),
            image_size=image_size,
            metadata={"reason": reason, **metadata},
        )

    @classmethod
    def from_masks(cls, masks: BoolArray, scores: Any, reason: str = "no object", **metadata: Any) -> Instances:
        """Instances with the tight boxes of their masks; masks without a pixel are left out.

        Args:
            masks: (n, H, W) bool.
            scores: n numbers in [0, 1].
            reason: why there is no object, used if no mask is left.
            metadata: values of the image as a whole.

        Raises:
            TypeError, ValueError: as the constructor.

        Example:
            >>> mask = np.zeros((4, 6), dtype=bool)
            >>> mask[1:3, 2:5] = True
            >>> Instances.from_masks(mask[None], [0.9]).boxes.tolist()
            [[2.0, 1.0, 5.0, 3.0]]
        """
        rles = encode_masks(masks)
        kept = np.flatnonzero(mask_areas(rles))
        size = (masks.shape[1], masks.shape[2])
        if not len(kept):
            return cls.empty(size, reason, **metadata)
        boxes = mask_boxes([rles[i] for i in kept]).astype(np.float32)
        return cls(masks[kept], np.asarray(scores, dtype=np.float32)[kept], boxes, size, metadata=metadata)

    @classmethod
    def from_supervision(cls, detections: Any, image_size: tuple[int, int]) -> Instances:
        """Convert ``supervision.Detections`` of an image of size (H, W), see ``eigenseg.data.supervision``."""
        return cls(**supervision.from_supervision(detections, image_size))

    def to_supervision(self) -> Any:
        """Convert to ``supervision.Detections``, see ``eigenseg.data.supervision``."""
        return supervision.to_supervision(self)

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.3g}" for score in self.scores[:10].tolist()) + (", ..." if len(self) > 10 else "")
        what = f": scores [{scores}]" if len(self) else f": {self.reason}" if self.reason else ""
        return f"Instances({len(self)} in {self.image_size[0]} x {self.image_size[1]} (H x W){what})"

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: Any) -> Instances:
        """Select instances by an integer, a slice, a list of integers or a bool array; always returns Instances."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return replace(
            self,
            masks=self.masks[chosen],
            scores=self.scores[chosen],
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            extras={name: [values[i] for i in chosen] for name, values in self.extras.items()},
        )

    def __iter__(self) -> Iterator[Instances]:
        return (self[i] for i in range(len(self)))

    @property
    def reason(self) -> str | None:
        """Why there are no objects, in one sentence; None if there are."""
        return self.metadata.get("reason")

    def sorted(self) -> Instances:
        """By descending score; equal scores keep their order."""
        return self[np.argsort(-self.scores, kind="stable")]

    def equals(self, other: object) -> bool:
        """Whether all fields are equal, exactly, however the masks are stored (as an array or as RLE).

        Extras are compared entry by entry, values as in ``eigenseg.data.comparison.equal_values``; NaN equals NaN.

        Example:
            >>> Instances.empty((3, 4), "one color").equals(Instances.empty((3, 4), "no object"))
            False
        """
        if not isinstance(other, Instances) or self.masks.shape != other.masks.shape:
            return False
        arrays = all(equal_values(getattr(self, name), getattr(other, name)) for name in ("scores", "boxes", "labels"))
        rest = equal_values(tuple(self.names), tuple(other.names)) and equal_values(self.metadata, other.metadata)
        if not (arrays and rest and equal_extras(self.extras, other.extras)):
            return False
        # Mask by mask, because all masks of a large image do not fit into memory.
        return all(np.array_equal(one, two) for one, two in zip(self.masks, other.masks, strict=True))

    def rles(self) -> list[Rle]:
        """The masks as COCO run-length encodings, encoded now unless they are stored so."""
        return list(self.masks.rles) if isinstance(self.masks, RleMasks) else encode_masks(self.masks)

    def areas(self) -> NDArray[np.int64]:
        """Mask areas: (n,) int64 pixels."""
        if isinstance(self.masks, RleMasks):
            return np.array(mask_areas(self.masks.rles), dtype=np.int64)
        return np.asarray(self.masks.sum(axis=(1, 2)), dtype=np.int64)

    def label_map(self) -> NDArray[np.int32]:
        """Label map: (H, W) int32, 0 is background, i + 1 is instance i; the highest score is on top, the first
        of equals."""
        canvas = np.zeros(self.image_size, dtype=np.int32)
        for i in self.bottom_up():
            canvas[self.masks[i]] = i + 1
        return canvas

    def saliency_map(self) -> NDArray[np.uint8]:
        """Foreground of the image as 8-bit gray: (H, W) uint8, 255 is foreground.

        ``metadata["saliency"]``, (H, W) floating in [0, 1], if present; else 255 on all instances.
        """
        soft = self.metadata.get("saliency")
        if soft is not None:
            # Rounded to the nearest level, halves down, so that exactly the values above one half stay above it in 8 bits.
            return np.ceil(np.asarray(soft, dtype=np.float64).clip(0, 1) * 255 - 0.5).astype(np.uint8)
        canvas = np.zeros(self.image_size, dtype=np.uint8)
        for i in range(len(self)):
            canvas[np.asarray(self.masks[i])] = 255
        return canvas

    def bottom_up(self) -> list[int]:
        """Indices in painting order: the highest score comes last and is on top, the first of equals."""
        order: list[int] = np.argsort(-self.scores, kind="stable")[::-1].tolist()
        return order

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO annotations without ids: RLE with ASCII counts, bbox xywh, area, score, ``category_id`` from 1.

        Extras that are numbers or pairs of numbers are added under their names.
        """
        rles, annotations = self.rles(), []
        for i, (rle, area) in enumerate(zip(rles, mask_areas(rles), strict=True)):
            x0, y0, x1, y1 = (float(side) for side in self.boxes[i])
            annotation = {
                "category_id": int(self.labels[i]) + 1,
                "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": area,
                "segmentation": dict(rle),
                "score": float(self.scores[i]),
            }
            for name, values in self.extras.items():
                value = _as_array(values[i])
                if name not in annotation and value.size <= 2 and value.dtype.kind in "biuf":
                    numbers = [json_number(number) for number in value.ravel().tolist()]
                    annotation[name] = numbers if value.ndim else numbers[0]
            annotations.append(annotation)
        return annotations


def _as_array(value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:  # lists of unequal lengths are no numbers
        return np.empty(0, dtype=object)


def json_number(number: Any) -> Any:
    """A number as files hold it: floats with seven significant digits, None for NaN and infinity, integers as they are."""
    # json has no infinity, which is the gap of a graph with two tokens. Digits after the seventh depend on the number of
    # threads, and equal results must give equal files.
    if not np.isfinite(number):
        return None
    return float(f"{number:.7g}") if isinstance(number, float) else number


def _set(instances: Instances, name: str, value: object) -> None:
    object.__setattr__(instances, name, value)
