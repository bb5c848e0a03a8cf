"""Self-training (CutLER, Wang et al., CVPR 2023): the detector's confident predictions become the labels of the next round.

::

    labels --train--> detector --predict--> predictions --merge_labels--> labels of the next round --train--> ...

Labels and predictions are COCO json as ``extract`` and ``export`` write it; images are matched by file name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eigenseg.data.results.pseudo_labels import pseudo_labels
from eigenseg.data.rle import Rle, encode_segmentation, mask_areas, mask_ious
from eigenseg.segment.detector.settings import check_fraction

# Scores that predictions need in the first and the second round, and the overlap that replaces an old label; published.
THRESHOLDS = (0.7, 0.65)
MAX_IOU = 0.5


@dataclass(frozen=True)
class Round:
    """A finished round.

    Args:
        number: 0 is the training on the first labels.
        labels: that it was trained on, COCO json.
        model: what ``train`` returned.
    """

    number: int
    labels: Mapping[str, Any]
    model: Any


def self_train(
    labels: Mapping[str, Any],
    train: Callable[[int, Mapping[str, Any], Any], Any],
    predict: Callable[[int, Any], Mapping[str, Any]],
    rounds: int = 2,
    thresholds: Sequence[float] = THRESHOLDS,
    max_iou: float = MAX_IOU,
) -> Iterator[Round]:
    """Train on the labels, then ``rounds`` times on the merged labels, each round starting from the one before.

    Args:
        labels: the first labels.
        train: ``train(number, labels, previous)`` returns a model, such as the path of its weights; ``previous`` is what it
            returned the round before, None in round 0.
        predict: ``predict(number, model)`` returns the predictions for the same images, which are those of that round.
        rounds: of self-training; 0 trains once.
        thresholds: one for every round; published 0.7 and 0.65. Those of later rounds may be left over.
        max_iou: as in ``merge_labels``.

    Yields:
        Every round, when it is finished.

    Raises:
        ValueError: at once if there are fewer thresholds than rounds or they are not in [0, 1]; later, if no prediction of
            a round reaches its threshold.
    """
    if rounds < 0 or rounds > len(thresholds):
        raise ValueError(
            f"rounds must be 0 to {len(thresholds)}, the number of thresholds {list(thresholds)}, got {rounds}"
        )
    check_fraction("max_iou", max_iou)
    for threshold in thresholds:
        check_fraction("thresholds", threshold)
    return _rounds(labels, train, predict, list(thresholds[:rounds]), max_iou)


def _rounds(
    labels: Mapping[str, Any], train: Any, predict: Any, thresholds: list[float], max_iou: float
) -> Iterator[Round]:
    model = train(0, labels, None)
    yield Round(0, labels, model)
    for number, threshold in enumerate(thresholds, start=1):
        try:
            labels = merge_labels(predict(number - 1, model), labels, threshold, max_iou)
        except ValueError as error:
            raise ValueError(f"round {number}: {error}") from None
        model = train(number, labels, model)
        yield Round(number, labels, model)


def merge_labels(
    predictions: Mapping[str, Any], labels: Mapping[str, Any], threshold: float, max_iou: float = MAX_IOU
) -> dict[str, Any]:
    """Labels of the next round: predictions of at least the threshold, and old labels that none of them replaces.

    An old label stays where its largest mask IoU with these predictions is below ``max_iou``. Its score stays too. Masks
    without a pixel are left out. Areas are those of the masks; the published code takes the boxes'.

    Args:
        predictions: COCO json of the detector, ``score`` in every annotation.
        labels: COCO json that the detector was trained on; images that it lists stay, also without predictions.
        threshold: published 0.7 in the first round, 0.65 in the second.
        max_iou: published 0.5.

    Returns:
        Pseudo-labels, COCO json: of every image the predictions first; ids from 1.

    Raises:
        ValueError: if it is no COCO json, a file name occurs twice, a predicted image is not among the labeled ones or has
            another size there, or no prediction reaches the threshold.

    Example:
        >>> def coco(*annotations):
        ...     size = {"id": 7, "file_name": "a.png", "height": 4, "width": 4}
        ...     return {"images": [size], "annotations": list(annotations)}
        >>> def square(x, score):
        ...     corners = [x, 0, x + 2, 0, x + 2, 2, x, 2]
        ...     return {"image_id": 7, "segmentation": [corners], "score": score}
        >>> merged = merge_labels(coco(square(0, 0.9), square(2, 0.3)), coco(square(0, 0.5), square(2, 0.5)), 0.7)
        >>> [(entry["bbox"], entry["score"]) for entry in merged["annotations"]]
        [([0.0, 0.0, 2.0, 2.0], 0.9), ([2.0, 0.0, 2.0, 2.0], 0.5)]
    """
    check_fraction("threshold", threshold)
    check_fraction("max_iou", max_iou)
    old, new = _by_name(labels, "labels"), _by_name(predictions, "predictions")
    _check_images(old, new)
    scores = [_score(entry) for _, entries in new.values() for entry in entries]
    if not scores or max(scores) < threshold:
        best = f"the highest score is {max(scores):.3g}" if scores else "there is no prediction"
        raise ValueError(
            f"no prediction has a score of at least {threshold:g} ({best}), so there is nothing to learn from; "
            "lower thresholds, or train the round before for longer"
        )
    annotations = []
    for name, (image, entries) in old.items():
        confident = [entry for entry in new.get(name, (image, []))[1] if _score(entry) >= threshold]
        kept = [*confident, *_unmatched(entries, confident, image, max_iou)]
        annotations += [{**entry, "image_id": image["id"]} for entry in kept if mask_areas([_mask(entry, image)])[0]]
    return pseudo_labels({"images": [image for image, _ in old.values()], "annotations": annotations})


def _unmatched(entries: list[Any], confident: list[Any], image: Mapping[str, Any], max_iou: float) -> list[Any]:
    """The old labels of an image that no confident prediction overlaps."""
    if not entries or not confident:
        return entries
    ious = mask_ious([_mask(entry, image) for entry in entries], [_mask(entry, image) for entry in confident])
    return [entry for entry, largest in zip(entries, ious.max(axis=1), strict=True) if largest < max_iou]


def _mask(entry: Mapping[str, Any], image: Mapping[str, Any]) -> Rle:
    return encode_segmentation(entry["segmentation"], (image["height"], image["width"]))


def _by_name(content: Mapping[str, Any], what: str) -> dict[str, tuple[Any, list[Any]]]:
    """Images and their annotations by file name."""
    by_name: dict[str, tuple[Any, list[Any]]] = {}
    try:
        by_id: dict[Any, list[Any]] = {}
        for image in content["images"]:
            if image["file_name"] in by_name or image["id"] in by_id:
                raise ValueError(
                    f"{what}: image {image['file_name']!r}, id {image['id']!r}, is not the only one of its name and id"
                )
            by_id[image["id"]] = []
            by_name[image["file_name"]] = (image, by_id[image["id"]])
        for entry in content["annotations"]:
            if entry["image_id"] not in by_id:
                raise ValueError(f"{what}: an annotation is of image id {entry['image_id']!r}, which is not in the file")
            if "segmentation" not in entry:
                raise ValueError(f"{what}: an annotation of image id {entry['image_id']!r} has no segmentation")
            by_id[entry["image_id"]].append(entry)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{what}: this is not COCO json ({type(error).__name__}: {error})") from None
    return by_name


def _check_images(labels: Mapping[str, Any], predictions: Mapping[str, Any]) -> None:
    unlisted = [name for name in predictions if name not in labels]
    if unlisted:
        raise ValueError(
            f"predictions of {len(unlisted)} images that the labels do not list, such as {unlisted[0]!r}; predict on the "
            "images of the labels, with the same input folder"
        )
    for name, (image, _) in predictions.items():
        sizes = [(one.get("height"), one.get("width")) for one in (image, labels[name][0])]
        if sizes[0] != sizes[1]:
            raise ValueError(f"predictions: {name!r} is {sizes[0]} (H, W) there and {sizes[1]} in the labels")


def _score(entry: Mapping[str, Any]) -> float:
    score = entry.get("score")
    if not isinstance(score, (int, float)) or isinstance(score, bool):
        raise ValueError(
            f"predictions: a prediction of image id {entry['image_id']!r} needs a number as score, got {score!r}"
        )
    return float(score)
