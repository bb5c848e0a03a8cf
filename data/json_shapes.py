"""The shapes of json files in COCO and YouTube-VIS form: what their readers need of them; other keys are left out.

A ``segmentation`` is checked where it is encoded (``eigenseg.data.rle``), and a ``bbox`` is x, y, width, height in pixels.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

# More than JPEG and PNG readers take; a wrong number must not ask for all memory.
_Range = Meta(ge=1, le=65535)
Pixels = Annotated[int, _Range] | Annotated[float, _Range]
Label = Annotated[int, Meta(ge=-1, lt=2**31)]
Segmentation = list[Any] | dict[str, Any] | None
Box = tuple[float, float, float, float]

COCO_FORM, YTVIS_FORM = "in COCO format", "in YouTube-VIS form"


class Category(TypedDict):
    """A class; ids need not be consecutive."""

    id: int
    name: str


class CocoImage(TypedDict):
    """An annotated image; LVIS names it by its URL alone."""

    id: int
    height: Pixels
    width: Pixels
    file_name: NotRequired[str]
    coco_url: NotRequired[str]


class CocoAnnotation(TypedDict):
    """An annotated object."""

    id: int
    image_id: int
    category_id: int
    bbox: Box
    area: float
    iscrowd: NotRequired[int | bool]
    score: NotRequired[float]
    segmentation: NotRequired[Segmentation]


class CocoFile(TypedDict):
    """A file of annotations."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[Category]


class CocoResult(TypedDict):
    """A predicted object: an entry of a result list."""

    image_id: int
    category_id: NotRequired[int | None]
    score: NotRequired[float]
    bbox: NotRequired[Box | None]
    segmentation: NotRequired[Segmentation]


class ScoredBoxes(TypedDict):
    """The predicted boxes of one image, xyxy in pixels."""

    boxes: list[Box]
    scores: list[float]
    labels: NotRequired[list[Label] | None]


class NamedImage(TypedDict):
    """An image of which id and name are needed."""

    id: int
    file_name: str


class CocoPredicted(TypedDict):
    """Predictions in the form of a file of annotations."""

    images: list[NamedImage]
    annotations: list[CocoResult]
    categories: list[Category]


class SizedImage(NamedImage):
    """An image of which the size is needed, too."""

    height: Annotated[int, _Range]
    width: Annotated[int, _Range]


class ExportedInstance(TypedDict):
    """An object of an ``instances.json``."""

    image_id: int
    segmentation: Segmentation
    score: NotRequired[float]


class InstancesFile(TypedDict):
    """An ``instances.json``."""

    images: list[SizedImage]
    annotations: list[ExportedInstance]


class Video(TypedDict):
    """A clip; ``name``, ``frame_rate`` and ``metadata`` are ours."""

    id: int
    height: Pixels
    width: Pixels
    file_names: list[str]
    name: NotRequired[str]
    frame_rate: NotRequired[int | float | None]
    metadata: NotRequired[dict[str, Any]]


class Track(TypedDict):
    """An object of a clip, annotated or predicted; ``track_id``, ``frame_scores`` and ``extras`` are ours."""

    segmentations: list[Segmentation]
    id: NotRequired[int]
    video_id: NotRequired[int]
    category_id: NotRequired[int]
    iscrowd: NotRequired[int | bool]
    score: NotRequired[float]
    track_id: NotRequired[int]
    frame_scores: NotRequired[list[float | None]]
    extras: NotRequired[dict[str, Any]]


class TrackOfFile(Track):
    """A track that says whose it is."""

    video_id: int  # type: ignore[misc]


class AnnotatedTrack(TrackOfFile):
    """A track of the ground truth."""

    id: int  # type: ignore[misc]


class Clip(TypedDict):
    """One clip with its tracks."""

    video: Video
    annotations: list[Track]
    categories: NotRequired[list[Category] | None]


class YtvisFile(TypedDict):
    """A file of tracks of several clips."""

    videos: list[Video]
    annotations: list[TrackOfFile]
    categories: NotRequired[list[Category] | None]


class YtvisAnnotations(TypedDict):
    """A file of annotations; those of the valid and test sets have none."""

    videos: list[Video]
    categories: list[Category]
    annotations: NotRequired[list[AnnotatedTrack] | None]
