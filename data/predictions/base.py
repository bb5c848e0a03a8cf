"""The interface of prediction readers, and the handling of items without a prediction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from eigenseg.data.datasets.base import Dataset, VideoAnnotation

# What a missing prediction means: an error, or an empty prediction.
Missing = Literal["error", "empty"]


class Predictions(Protocol):
    """Predictions of one kind, looked up by an item's name. Instances are pickled into worker processes."""

    def names(self) -> Iterable[str]:
        """Names of the predictions, with or without suffix; for messages and to check that some match."""
        ...

    def lacks(self, item: str) -> bool:
        """Whether there is no prediction of an item, not even an empty one."""
        ...

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Names of predictions that match none of these items."""
        ...

    def read(self, item: str, annotation: Any) -> Any:
        """The prediction of an item, in the form that its kind of annotation is scored with.

        Args:
            item: name in the dataset.
            annotation: of this item; supplies size, frames and image id.

        Raises:
            FileNotFoundError: if there is none and ``missing`` is ``error``.
            ValueError: if it cannot be read.
        """
        ...


@runtime_checkable
class FramePredictions(Predictions, Protocol):
    """Predictions of videos, which may lack single frames."""

    def absent_frames(self, annotation: VideoAnnotation) -> list[str]:
        """Annotated frames without a prediction."""
        ...


def check_absent(item: str, absent: Sequence[str], annotation: VideoAnnotation, where: Any, missing: Missing) -> None:
    """Raise if annotated frames of a video have no prediction, unless they count as empty.

    Args:
        item: name of the video.
        absent: names of the frames.
        annotation: of the video.
        where: what was searched, for the message.
        missing: whether an absent frame is an error.

    Raises:
        FileNotFoundError: counting the frames.
    """
    if absent and missing == "error":
        raise FileNotFoundError(
            f"{item}: {len(absent)} of {len(annotation.frames)} frames have no prediction, the first is {absent[0]} "
            f"(looked in {where}); missing=empty counts them as empty predictions"
        )


def stem(name: str) -> str:
    """A name without its last suffix: ``a/b.jpg`` is ``a/b``."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail and head and not head.endswith("/") else name


def without(names: Iterable[str], items: Iterable[str]) -> list[str]:
    """The names that match no item, with or without suffix."""
    known = {key for item in items for key in (item, stem(item))}
    return [name for name in names if name not in known and stem(name) not in known]


def check_overlap(predictions: Predictions, dataset: Dataset, indices: Iterable[int]) -> int:
    """Check early that some prediction matches an item, unless there are no predictions.

    Returns:
        How many of the items have no prediction.

    Raises:
        ValueError: if there are predictions, and none matches an item.
    """
    items = [dataset.items[i] for i in indices]
    lacking = [item for item in items if predictions.lacks(item)]
    if len(lacking) == len(items):
        example = next(iter(predictions.names()), None)
        if example is not None and items:
            raise ValueError(
                f"no prediction matches {dataset.title}: predictions have names such as {example!r}, "
                f"items such as {items[0]!r}; names must be equal, with or without suffix"
            )
    return len(lacking)
