"""Pictures of single items: annotation and prediction side by side."""

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
from eigenseg.data.sources import ImageSource

# Of a hundred detections the best ones are shown; more than the annotation holds would only cover the picture.
_LEAST_SHOWN = 5
_FRAMES_SHOWN = 3
_GRAY = 225  # where the picture itself is not at hand


class Panel(NamedTuple):
    """One picture with a line below it."""

    caption: str
    image: ImageArray


def draw_case(dataset: Dataset, predictions: Predictions, index: int) -> list[Panel]:
    """Draw one item; a picture that is not there is replaced by a gray ground.

    Args:
        dataset, predictions: as they were scored.
        index: of the item.
    """
    item, annotation = dataset.items[index], dataset.annotation(index)
    prediction, pictures = predictions.read(item, annotation), dataset.images(index)
    if dataset.kind == "objects":
        return _draw_objects(pictures[0], prediction, annotation)
    if dataset.kind == "saliency":
        picture = _picture(pictures, annotation.shape)
        return [
            Panel("picture", picture),
            Panel("annotation", _as_rgb(annotation)),
            Panel("prediction", _as_rgb(prediction)),
        ]
    if dataset.kind == "semantic":
        picture = _picture(pictures, annotation.shape)
        return [
            Panel("annotation", _draw_labels(picture, annotation)),
            Panel("prediction (clusters, colors of their own)", _draw_labels(picture, prediction)),
        ]
    return _draw_video(pictures, prediction, annotation.frames, annotation.labels)


def _draw_objects(source: ImageSource, prediction: Detections, annotation: ObjectAnnotation) -> list[Panel]:
    picture = _picture([source], annotation.image_size or _size_around(prediction.boxes, annotation.boxes))
    wanted = annotation.keep(~annotation.crowd)
    order = np.argsort(-prediction.scores, kind="stable")[: max(len(wanted), _LEAST_SHOWN)]
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
            f"annotation: {len(wanted)} object{'s' * (len(wanted) != 1)}",
            draw_regions(picture, wanted.masks, wanted.boxes, nothing="no object"),
        ),
        Panel(
            f"prediction: {len(prediction)}{some}",
            draw_regions(picture, shown.masks, shown.boxes, bottom_up, scores, nothing="nothing found"),
        ),
    ]


def _draw_video(
    pictures: list[ImageSource], prediction: NDArray[Any], frames: Sequence[str], labels: NDArray[np.uint8]
) -> list[Panel]:
    by_name = {source.name: source for source in pictures}
    steps = np.linspace(0, len(frames) - 1, 2 * _FRAMES_SHOWN + 1)[1::2]
    panels = []
    for step in dict.fromkeys(steps.round().astype(int).tolist()):
        source = [by_name[frames[step]]] if frames[step] in by_name else []
        picture = _picture(source, labels[step].shape)
        panels += [
            Panel(f"annotation, {frames[step]}", _draw_labels(picture, labels[step])),
            Panel("prediction", _draw_labels(picture, prediction[step])),
        ]
    return panels


def _draw_labels(picture: ImageArray, labels: NDArray[np.integer]) -> ImageArray:
    numbers = [number for number in np.unique(labels).tolist() if number not in (0, VOID)]
    masks = np.zeros((max(numbers, default=0), *labels.shape), dtype=bool)
    for number in numbers:
        masks[number - 1] = labels == number
    return draw_regions(picture, masks, np.zeros((0, 4)), nothing="nothing")


def _picture(sources: Sequence[ImageSource], size: tuple[int, ...]) -> ImageArray:
    try:
        picture = read_image(sources[0].path) if sources else None
    except (FileNotFoundError, ValueError):  # predictions were scored without it, or it counted as a failure
        picture = None
    if picture is not None:
        if picture.shape[:2] == tuple(size[:2]):
            return picture
        # Annotation in another size than its picture is drawn in the annotation's.
        resized: ImageArray = cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        return resized
    return np.full((size[0], size[1], 3), _GRAY, dtype=np.uint8)


def _size_around(*boxes: NDArray[np.float64]) -> tuple[int, int]:
    corners = np.concatenate([*boxes, np.array([[0, 0, 16.0, 16.0]])])
    return int(np.ceil(corners[:, 3].max())), int(np.ceil(corners[:, 2].max()))


def _as_rgb(gray: NDArray[np.uint8]) -> ImageArray:
    # Some annotations are 0 and 1; what is nearly black to the eye is shown as it is meant.
    spread = gray if gray.max(initial=0) > 1 else gray * 255
    return np.repeat(spread[..., None], 3, axis=2)
