"""Panels of single items: annotation and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VOID, Dataset, ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.images import ImageArray, read_image
from eigenseg.data.predictions.base import Predictions
from eigenseg.data.results.overlay import draw_regions
from eigenseg.data.rle import encode_masks, mask_boxes
from eigenseg.data.sources import ImageSource

# As many detections as annotated objects are shown, best first, but at least these; more would only cover the image.
_MIN_SHOWN = 5
_FRAMES_SHOWN = 3
_GRAY = 225  # in place of an image that cannot be read


class Panel(NamedTuple):
    """An image with a caption below it."""

    caption: str
    image: ImageArray


def draw_case(
    dataset: Dataset, predictions: Predictions, index: int, matches: NDArray[np.integer] | None = None
) -> list[Panel]:
    """Draw one item; regions lie on a gray background where its image is absent or cannot be read.

    Args:
        dataset, predictions: those that were scored.
        index: of the item.
        matches: (O, T) index of the proposal matched to each object of a video in each frame; negative where none is.
    """
    item, annotation = dataset.items[index], dataset.annotation(index)
    prediction, images = predictions.read(item, annotation), dataset.images(index)
    if dataset.kind == "objects":
        return _draw_objects(images[0], prediction, annotation)
    if dataset.kind == "saliency":
        maps = [Panel("annotation", _as_rgb(annotation)), Panel("prediction", _as_rgb(prediction))]
        if not images or not images[0].path.is_file():  # an empty panel in every case would say nothing
            return maps
        unread = ", which cannot be read" if _read(images) is None else ""
        return [Panel(f"image{unread}", _read_or_gray(images, annotation.shape)), *maps]
    if dataset.kind == "semantic":
        image = _read_or_gray(images, annotation.shape)
        return [
            Panel("annotation", _draw_labels(image, annotation)),
            Panel("prediction (cluster colors are arbitrary)", _draw_labels(image, prediction)),
        ]
    return _draw_video(images, prediction, annotation.frames, annotation.labels, matches)


def _draw_objects(source: ImageSource, prediction: Detections, annotation: ObjectAnnotation) -> list[Panel]:
    image = _canvas_of_objects(source, prediction, annotation)
    objects = annotation.keep(~annotation.crowd)
    order = np.argsort(-prediction.scores, kind="stable")[: max(len(objects), _MIN_SHOWN)]
    shown = Detections(
        prediction.boxes[order],
        prediction.scores[order],
        prediction.labels[order],
        None if prediction.masks is None else prediction.masks[order],
    )
    some = f", the best {len(shown)} of {len(prediction)}" if len(shown) < len(prediction) else ""
    scores = [f"{score:.2f}" for score in shown.scores]
    bottom_up = range(len(shown) - 1, -1, -1)
    return [
        Panel(
            f"annotation: {len(objects)} object{'s' * (len(objects) != 1)}",
            draw_regions(image, objects.masks, objects.boxes, nothing="no object"),
        ),
        Panel(
            f"prediction: {len(prediction)}{some}",
            draw_regions(image, shown.masks, shown.boxes, bottom_up, scores, nothing="no detection"),
        ),
    ]


def _draw_video(
    images: list[ImageSource],
    prediction: NDArray[Any],
    frames: Sequence[str],
    labels: NDArray[np.uint8],
    matches: NDArray[np.integer] | None,
) -> list[Panel]:
    by_name = {source.name: source for source in images}
    steps = np.linspace(0, len(frames) - 1, 2 * _FRAMES_SHOWN + 1)[1::2]
    panels = []
    for step in dict.fromkeys(steps.round().astype(int).tolist()):
        source = [by_name[frames[step]]] if frames[step] in by_name else []
        image = _read_or_gray(source, labels[step].shape)
        panels += [
            Panel(f"annotation, {frames[step]}", _draw_labels(image, labels[step])),
            Panel("prediction", _draw_labels(image, prediction[step]))
            if matches is None
            else _draw_matches(image, prediction[step], matches[:, step]),
        ]
    return panels


def _draw_matches(image: ImageArray, labels: NDArray[np.integer], matches: NDArray[np.integer]) -> Panel:
    """The proposals of a frame: those matched to an object framed in its color and named after it, the others tinted."""
    objects = {int(proposal) + 1: number for number, proposal in enumerate(matches, start=1)}
    ids = [i for i in np.unique(labels).tolist() if i]
    matched, others = [i for i in ids if i in objects], [i for i in ids if i not in objects]
    no_boxes = np.zeros((0, 4))
    # The colors after those of the objects, so that no proposal looks like another one's object.
    colors = [len(matches) + i for i in range(len(others))]
    canvas = draw_regions(image, [labels == i for i in others], no_boxes, colors=colors, nothing=None if ids else "empty")
    masks = [labels == i for i in matched]
    boxes = mask_boxes(encode_masks(np.stack(masks))) if masks else no_boxes
    captions, colors = [f"object {objects[i]}" for i in matched], [objects[i] - 1 for i in matched]
    drawn = draw_regions(canvas, masks, boxes, captions=captions, colors=colors)
    return Panel(f"prediction: {len(matched)} of {len(ids)} proposals matched, framed in the object's color", drawn)


def _draw_labels(image: ImageArray, labels: NDArray[np.integer]) -> ImageArray:
    ids = [i for i in np.unique(labels).tolist() if i not in (0, VOID)]
    masks = np.zeros((max(ids, default=0), *labels.shape), dtype=bool)
    for i in ids:
        masks[i - 1] = labels == i
    return draw_regions(image, masks, np.zeros((0, 4)), nothing="empty")


def _canvas_of_objects(source: ImageSource, prediction: Detections, annotation: ObjectAnnotation) -> ImageArray:
    """The image in the size of the annotation or the masks; if neither tells it, in its own size."""
    if annotation.image_size is not None:
        return _read_or_gray([source], annotation.image_size)
    if prediction.masks is not None and len(prediction.masks):
        return _read_or_gray([source], prediction.masks.shape[1:])
    image = _read([source])
    return _read_or_gray([], _size_around(prediction.boxes, annotation.boxes)) if image is None else image


def _read(sources: Sequence[ImageSource]) -> ImageArray | None:
    try:
        return read_image(sources[0].path) if sources else None
    except (FileNotFoundError, ValueError):  # predictions were scored without it, or it is recorded as a failure
        return None


def _read_or_gray(sources: Sequence[ImageSource], size: tuple[int, ...]) -> ImageArray:
    image = _read(sources)
    if image is not None:
        if image.shape[:2] == tuple(size[:2]):
            return image
        # An image of another size than its annotation is resized to the annotation.
        resized: ImageArray = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        return resized
    return np.full((size[0], size[1], 3), _GRAY, dtype=np.uint8)


def _size_around(*boxes: NDArray[np.float64]) -> tuple[int, int]:
    corners = np.concatenate([*boxes, np.array([[0, 0, 16.0, 16.0]])])
    return int(np.ceil(corners[:, 3].max())), int(np.ceil(corners[:, 2].max()))


def _as_rgb(gray: NDArray[np.uint8]) -> ImageArray:
    # Masks of 0 and 1 would look black.
    visible = gray if gray.max(initial=0) > 1 else gray * 255
    return np.repeat(visible[..., None], 3, axis=2)
