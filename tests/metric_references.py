"""Slow or independent versions of the metrics: the tests compare the two."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from metric_samples import slow_contour, slow_jaccard
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import adjusted_rand_score

from eigenseg.data.datasets.base import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.video.metrics.regions import tolerance

Maps = list[tuple[np.ndarray, np.ndarray]]
Objects = dict[str, tuple[Detections, ObjectAnnotation]]
COCO_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


# ---- saliency


def f_of(precision: float, recall: float) -> float:
    return 1.3 * precision * recall / (0.3 * precision + recall) if precision + recall else 0.0


def ratio(numerator: Any, denominator: Any, empty: float = 0.0) -> float:
    return int(numerator.sum()) / int(denominator.sum()) if denominator.any() else empty


def slow_toolbox(images: Maps) -> dict[str, float | None]:
    """The published sums: over all images, divided by the number of maps above zero; a constant map has no MAE."""
    errors, adaptive, rows, counted = [], [], [], 0
    for prediction, annotation in images:
        gray = prediction.astype(int)
        foreground, low, peak = annotation >= 25.5, int(gray.min()), int(gray.max())
        counted += peak > 0
        if peak > low:
            soft = [Fraction(int(v) - low, peak - low) for v in gray.ravel()]
            errors.append(float(sum(abs(s - int(w)) for s, w in zip(soft, foreground.ravel(), strict=True)) / gray.size))
        # Map / maximum >= min(2 mean, 1), both sides multiplied by the maximum and the number of pixels.
        adapted = gray * gray.size >= min(2 * int(gray.sum()), max(peak, 1) * gray.size)
        adaptive.append(f_of(ratio(adapted & foreground, adapted), ratio(adapted & foreground, foreground)))
        scaled = gray / 255 / (peak / 255) if peak else np.zeros(gray.shape)
        row = []
        for k in range(255, -1, -1):
            predicted = scaled >= k / 255
            matches = predicted & foreground
            row.append((ratio(matches, predicted), ratio(matches, foreground), ratio(matches, predicted | foreground)))
        rows.append(row)
    mae = sum(errors) / len(errors) if errors else None
    if not counted:
        return {"mae": mae, "adaptive_f": None, "max_f": None, "max_iou": None, "mean_iou": None}
    precision, recall, iou = np.array(rows).sum(axis=0).T / counted
    return {
        "mae": mae,
        "adaptive_f": sum(adaptive) / counted,
        "max_f": max(f_of(p, r) for p, r in zip(precision, recall, strict=True)),
        "max_iou": float(iou.max()),
        "mean_iou": float(iou.mean()),
    }


def slow_tokencut(images: Maps) -> dict[str, float | None]:
    curves, accuracies, ious = [], [], []
    for prediction, annotation in images:
        foreground, half = annotation > 0, prediction / 255 > 0.5
        accuracies.append(ratio(half == foreground, np.ones_like(foreground)))
        if (half | foreground).any():
            ious.append(ratio(half & foreground, half | foreground))
        predicted = [prediction > k for k in range(255)]
        curves.append([f_of(ratio(t & foreground, t, 1.0), ratio(t & foreground, foreground, 1.0)) for t in predicted])
    iou = sum(ious) / len(ious) if ious else None
    return {"max_f": max(np.mean(curves, axis=0)), "iou": iou, "accuracy": sum(accuracies) / len(accuracies)}


# ---- boxes and masks of objects


def box_iou(one: Iterable[float], other: Iterable[float], both_ends: int = 0) -> Fraction:
    """IoU of two xyxy boxes; with ``both_ends`` 1 their maxima belong to them."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = ([Fraction(float(side)) for side in box] for box in (one, other))
    width = max(Fraction(0), min(ax1, bx1) - max(ax0, bx0) + both_ends)
    height = max(Fraction(0), min(ay1, by1) - max(ay0, by0) + both_ends)
    areas = [(ax1 - ax0 + both_ends) * (ay1 - ay0 + both_ends), (bx1 - bx0 + both_ends) * (by1 - by0 + both_ends)]
    return width * height / (sum(areas) - width * height)


def localized(items: Objects, counts: Callable[[ObjectAnnotation], np.ndarray], both_ends: int = 0) -> float:
    """Percentage of images with counting objects whose highest-scoring box has IoU of at least 1/2 with one of them."""
    outcomes = []
    for prediction, annotation in items.values():
        boxes = annotation.boxes[counts(annotation)] - np.array([0, 0, both_ends, both_ends])
        if len(boxes):
            best = max(range(len(prediction)), key=lambda i: (prediction.scores[i], -i), default=None)
            ious = [] if best is None else [box_iou(prediction.boxes[best], box, both_ends) for box in boxes]
            outcomes.append(any(iou >= Fraction(1, 2) for iou in ious))
    return 100 * sum(outcomes) / len(outcomes)


def pycocotools_scores(
    items: Objects, regions: str, agnostic: bool, outlines: dict[int, Any] | None = None
) -> dict[str, float | None]:
    """pycocotools' twelve metrics; image ids are those of the annotation, annotation ids start at 1."""
    images, annotations, results = [], [], []
    for prediction, annotation in items.values():
        assert annotation.image_size is not None
        height, width = annotation.image_size
        images.append({"id": annotation.image_id, "height": height, "width": width})
        for i in range(len(annotation)):
            category = 1 if agnostic else int(annotation.labels[i]) + 1
            box = [*annotation.boxes[i, :2], *(annotation.boxes[i, 2:] - annotation.boxes[i, :2])]
            entry = {"image_id": annotation.image_id, "category_id": category, "bbox": box, "area": annotation.areas[i]}
            outline = (
                outlines[annotation.image_id or 0][i]
                if outlines
                else annotation.masks.rles[i]
                if annotation.masks
                else None
            )
            annotations.append(
                {**entry, "id": len(annotations) + 1, "iscrowd": int(annotation.crowd[i]), "segmentation": outline}
            )
        order = sorted(range(len(prediction)), key=lambda i: (-prediction.scores[i], prediction.labels[i], i))
        for i in order:
            category = 1 if agnostic else int(prediction.labels[i]) + 1
            entry = {"image_id": annotation.image_id, "category_id": category, "score": prediction.scores[i]}
            if regions == "bbox":
                entry["bbox"] = [*prediction.boxes[i, :2], *(prediction.boxes[i, 2:] - prediction.boxes[i, :2])]
            else:
                assert prediction.masks is not None
                entry["segmentation"] = dict(prediction.masks.rles[i])
            results.append(entry)
    categories = [{"id": i, "name": str(i)} for i in range(1, 5)]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {"images": images, "annotations": annotations, "categories": categories}
        dataset.createIndex()
        evaluation = COCOeval(dataset, dataset.loadRes(results), regions)
        for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
            step()
    return {key: None if value == -1 else value for key, value in zip(COCO_KEYS, evaluation.stats, strict=True)}


def numbered(items: Objects) -> Objects:
    """The same with image ids in the order of the names."""
    return {name: (items[name][0], replace(items[name][1], image_id=i)) for i, name in enumerate(sorted(items), start=1)}


# ---- classes


def mean_iou(items: dict[str, Any], classes: int, assign: Callable[[np.ndarray], Iterable[tuple[int, ...]]]) -> float:
    """Best mean IoU over assignments of clusters to classes (-1: none); void pixels (255) do not count."""
    known = [(p[a != 255], a[a != 255]) for p, a in items.values()]
    predicted, annotated = (np.concatenate(parts).astype(int) for parts in zip(*known, strict=True))
    counts = np.array(
        [[((predicted == k) & (annotated == c)).sum() for c in range(classes)] for k in range(predicted.max() + 1)]
    )

    def score(assignment: tuple[int, ...]) -> float:
        mapped = np.array(assignment)[predicted]
        occurring = [c for c in range(classes) if ((mapped == c) | (annotated == c)).any()]
        return float(
            np.mean(
                [((mapped == c) & (annotated == c)).sum() / ((mapped == c) | (annotated == c)).sum() for c in occurring]
            )
        )

    return max(score(assignment) for assignment in assign(counts))


def injections(counts: np.ndarray) -> Iterable[tuple[int, ...]]:
    """All assignments that give no class to two clusters."""
    clusters, classes = counts.shape
    return set(itertools.permutations([*range(classes), *[-1] * clusters], clusters))


def majorities(counts: np.ndarray) -> Iterable[tuple[int, ...]]:
    """The assignment of every cluster to the class of most of its pixels."""
    return [tuple(int(row.argmax()) if row.any() else -1 for row in counts)]


# ---- videos


def slow_scores(prediction: np.ndarray, annotation: np.ndarray) -> tuple[float, float, float] | None:
    """FG-ARI, mBO and mIoU of one sample, None without an object."""
    valid = (annotation != 255).ravel()
    mine, other = prediction.ravel()[valid], annotation.ravel()[valid]
    ids = sorted(set(other.tolist()) - {0})
    if not ids:
        return None
    segments = sorted(set(mine.tolist()))
    ious = np.array(
        [[((mine == s) & (other == i)).sum() / ((mine == s) | (other == i)).sum() for i in ids] for s in segments]
    )
    # Objects stay unmatched if there are too few segments.
    padded = np.concatenate([ious, np.zeros((len(ids), len(ids)))])
    assignments = itertools.permutations(range(len(padded)), len(ids))
    matched = max(sum(padded[s, o] for o, s in enumerate(assigned)) for assigned in assignments)
    objects = other > 0
    return adjusted_rand_score(other[objects], mine[objects]), ious.max(axis=0).mean(), matched / len(ids)


def slow_pairs(prediction: np.ndarray, annotation: np.ndarray) -> np.ndarray:
    """J and F of all proposals (at least as many as objects) with all objects in all frames: (2, P, O, T)."""
    first = annotation[0][annotation[0] != 255]
    objects, stacked = int(first.max(initial=0)), prediction.ndim == 4
    count = len(prediction) if stacked else int(prediction.max(initial=0))
    proposals = max(count, objects)
    pairs = np.empty((2, proposals, objects, len(annotation)))
    for p, o, t in np.ndindex(*pairs.shape[1:]):
        valid = annotation[t] != 255
        mine = (
            (prediction[p, t] if p < count else np.zeros(annotation.shape[1:], dtype=bool))
            if stacked
            else prediction[t] == p + 1
        )
        pairs[:, p, o, t] = (
            slow_jaccard(mine & valid, annotation[t] == o + 1),
            slow_contour(mine & valid, annotation[t] == o + 1, tolerance(annotation.shape[1:])),
        )
    return pairs


def best_assignment(gain: np.ndarray) -> tuple[int, ...]:
    """Proposal of every object by the largest sum of gains (P, O)."""
    return max(
        itertools.permutations(range(gain.shape[0]), gain.shape[1]),
        key=lambda proposals: sum(gain[p, o] for o, p in enumerate(proposals)),
    )


def davis_j_and_f(items: dict[str, Any], per_frame: bool) -> float:
    """Mean of J and F over the objects of all videos, with one assignment per video or per frame."""
    scores = []
    for prediction, annotation in items.values():
        pairs = slow_pairs(prediction, annotation.labels)
        frames = range(pairs.shape[3])
        whole = [best_assignment(pairs.mean(axis=(0, 3)))] * len(frames)
        chosen = [best_assignment(pairs[..., t].sum(axis=0)) for t in frames] if per_frame else whole
        scores += [np.mean([pairs[:, chosen[t][o], o, t] for t in frames]) for o in range(pairs.shape[2])]
    return float(np.mean(scores))


def sequence_iou(items: dict[str, Any]) -> float:
    """IoU of the merged foreground, mean over frames, then over videos; void pixels do not count."""
    return float(
        np.mean(
            [
                np.mean(
                    [
                        slow_jaccard((p > 0) & (a != 255), (a > 0) & (a != 255))
                        for p, a in zip(prediction, annotation.labels, strict=True)
                    ]
                )
                for prediction, annotation in items.values()
            ]
        )
    )


def mean_ari(samples: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean FG-ARI of the samples that have an object."""
    scores = [slow_scores(prediction, annotation) for prediction, annotation in samples]
    return float(np.mean([score[0] for score in scores if score is not None]))


def painted(prediction: Detections, annotation: ObjectAnnotation) -> tuple[np.ndarray, np.ndarray]:
    """Label maps: detections by ascending score; annotated objects, 255 where they overlap or are crowd."""
    masks, objects = np.asarray(prediction.masks), np.asarray(annotation.masks)
    labels = np.zeros(masks.shape[1:], dtype=int)
    for i in sorted(range(len(masks)), key=lambda i: (prediction.scores[i], -i)):
        labels[masks[i]] = i + 1
    target = np.zeros(labels.shape, dtype=int)
    for i, mask in enumerate(objects[~annotation.crowd]):
        target[mask] = i + 1
    target[(objects[~annotation.crowd].sum(axis=0) > 1) | objects[annotation.crowd].any(axis=0)] = 255
    return labels, target
