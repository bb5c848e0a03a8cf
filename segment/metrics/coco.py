"""COCO average precision and recall of boxes, masks and boundaries, class-agnostic or per class.

An adapter around faster-coco-eval; the rest of the toolkit uses ``Detections`` and ``ObjectAnnotation``. Known pitfalls of
the published evaluators are avoided: annotation ids start at 1 (id 0 would lose a match), an empty set of detections scores
0, and ties are broken in a fixed order (images by id or name, then descending score, class, input order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from eigenseg.data.checks import check_choice
from eigenseg.data.datasets.base import Kind, ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Accumulator, ItemScores
from eigenseg.data.rle import mask_areas

Regions = Literal["bbox", "segm", "boundary"]
_WHAT = {"bbox": "boxes", "segm": "masks", "boundary": "boundaries"}
_SIZES = ("all", "small", "medium", "large")
# Width of a boundary as a fraction of the image diagonal (Cheng et al., Boundary IoU, CVPR 2021, section 4).
_BOUNDARY_WIDTH = 0.02


class _Record(NamedTuple):
    prediction: Detections
    annotation: ObjectAnnotation
    best_iou: float | None


class CocoAP(Accumulator[_Record]):
    """Average precision over IoU 0.50 : 0.05 : 0.95 and average recall, as COCO defines them.

    Args:
        regions: ``"bbox"``, ``"segm"`` (masks) or ``"boundary"`` (Boundary AP).
        class_agnostic: treat all predictions and annotations as one class (CutLER); otherwise classes must match.
        max_detections: three ascending limits on the detections per image, highest scores first; AP uses the last.
        difficult_as_crowd: ignore PASCAL VOC's difficult objects, as COCO ignores crowd regions; otherwise they count like
            any other object.

    Raises:
        ValueError: if a parameter is out of range.
    """

    kind: ClassVar[Kind] = "objects"
    main, item_score = "AP", "best_iou"
    item_explanation = (
        "the best IoU of each object with any prediction, whatever its score, averaged over an image's objects"
    )

    def __init__(
        self,
        regions: Regions = "segm",
        class_agnostic: bool = True,
        max_detections: Sequence[int] = (1, 10, 100),
        difficult_as_crowd: bool = False,
    ) -> None:
        super().__init__()
        check_choice("regions", regions, get_args(Regions))
        limits = [int(limit) for limit in max_detections]
        if len(limits) != 3 or limits[0] < 1 or limits != sorted(set(limits)):
            raise ValueError(f"max_detections must be three ascending numbers, got {list(max_detections)}")
        self.regions, self.class_agnostic, self.max_detections = regions, class_agnostic, limits
        self.difficult_as_crowd = difficult_as_crowd

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return f"{_WHAT[self.regions]}, {'class-agnostic' if self.class_agnostic else 'per class'}"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        return f"COCO AP and AR of {self.tag}, at most {self.max_detections[-1]} detections per image"

    def update(self, name: str, prediction: Detections, annotation: ObjectAnnotation) -> None:
        """Score one image.

        Raises:
            ValueError: if masks are missing or differ from the image in size, or a predicted class is not in the dataset.
        """
        if not self.class_agnostic and (prediction.labels < 0).any():
            raise ValueError(
                f"{name}: the prediction has a class that is not in the dataset; fix it, or set "
                "evaluation.class_agnostic=true"
            )
        if self.regions != "bbox":
            try:
                prediction.check_masks()
            except ValueError as error:
                raise ValueError(f"{name}: {error}; score boxes with evaluation.regions=bbox") from None
            for source, masks, count in (
                ("annotation", annotation.masks, len(annotation)),
                ("prediction", prediction.masks, len(prediction)),
            ):
                if masks is None and count:
                    raise ValueError(f"{name}: the {source} has no masks; score boxes with evaluation.regions=bbox")
                if masks is not None and count and annotation.image_size != masks.shape[1:]:
                    (height, width), (rows, columns) = masks.shape[1:], annotation.image_size or (None, None)
                    raise ValueError(
                        f"{name}: the {source}'s masks have {width}x{height} pixels, the image has {columns}x{rows}; "
                        "predictions must be in original pixels"
                    )
        self.add(name, _Record(prediction, annotation, self._best_iou(prediction, annotation)))

    def compute(self) -> ItemScores:
        """``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``AR1``, ``AR10``, ``AR100``, ``ARs``, ``ARm``, ``ARl``.

        In [0, 1]; the numbers after AR are ``max_detections``. None if there is no such object in the ground truth.
        """
        ground_truth, results = self._datasets()
        evaluation = COCOeval_faster(
            ground_truth,
            results,
            self.regions,
            print_function=_silent,
            boundary_dilation_ratio=_BOUNDARY_WIDTH,
            boundary_cpu_count=1,
        )
        evaluation.params.maxDets = self.max_detections
        evaluation.evaluate()
        evaluation.accumulate()
        return _summarize(evaluation.eval["precision"], evaluation.eval["recall"], self.max_detections)

    def item_scores(self) -> dict[str, ItemScores]:
        """``best_iou`` (best IoU of each object with a prediction, averaged over objects), ``objects``, ``predictions``."""
        return {
            name: {
                "best_iou": record.best_iou,
                "objects": len(record.annotation) - int(self._ignored(record.annotation).sum()),
                "predictions": len(record.prediction),
            }
            for name, record in self.in_order()
        }

    def _ignored(self, annotation: ObjectAnnotation) -> NDArray[np.bool_]:
        return annotation.crowd | annotation.difficult if self.difficult_as_crowd else annotation.crowd

    def _best_iou(self, prediction: Detections, annotation: ObjectAnnotation) -> float | None:
        objects = annotation.keep(~self._ignored(annotation))
        if not len(objects):
            return None
        if not len(prediction):
            return 0.0
        if self.regions == "bbox":
            predicted, annotated = (_xywh(boxes).tolist() for boxes in (prediction.boxes, objects.boxes))
        else:
            assert prediction.masks is not None
            assert objects.masks is not None
            predicted, annotated = list(prediction.masks.rles), list(objects.masks.rles)
        ious = np.asarray(coco_mask.iou(predicted, annotated, [0] * len(objects)))
        if not self.class_agnostic:
            ious = np.where(prediction.labels[:, None] == objects.labels[None, :], ious, 0)
        return float(ious.max(axis=0).mean())

    def _datasets(self) -> tuple[COCO, COCO]:
        def key(entry: tuple[str, _Record]) -> tuple[int, str]:
            return entry[1].annotation.image_id or 0, entry[0]

        images, annotations, results = [], [], []
        for image_id, (_, record) in enumerate(sorted(self.records.items(), key=key), start=1):
            height, width = record.annotation.image_size or (0, 0)
            images.append({"id": image_id, "height": height, "width": width})
            annotations += self._annotation_entries(image_id, record.annotation)
            results += self._prediction_entries(image_id, record.prediction)
        classes = sorted({entry["category_id"] for entry in annotations + results}) or [1]
        categories = [{"id": number, "name": str(number)} for number in classes]
        datasets = []
        for entries in (annotations, results):
            for number, entry in enumerate(entries, start=1):
                entry["id"] = number
            dataset = {"images": images, "annotations": entries, "categories": categories}
            datasets.append(COCO(dataset, print_function=_silent))
        return datasets[0], datasets[1]

    def _annotation_entries(self, image_id: int, annotation: ObjectAnnotation) -> list[dict[str, Any]]:
        ignored, boxes = self._ignored(annotation), _xywh(annotation.boxes)
        return [
            {
                "image_id": image_id,
                "category_id": self._category(annotation.labels[i]),
                "bbox": boxes[i].tolist(),
                "area": float(annotation.areas[i]),
                "iscrowd": int(ignored[i]),
                **self._outline(annotation, i),
            }
            for i in range(len(annotation))
        ]

    def _prediction_entries(self, image_id: int, prediction: Detections) -> list[dict[str, Any]]:
        boxes = _xywh(prediction.boxes)
        if self.regions == "bbox":
            areas = (boxes[:, 2] * boxes[:, 3]).tolist()
        else:
            areas = mask_areas(prediction.masks.rles) if prediction.masks is not None else []
        return [
            {
                "image_id": image_id,
                "category_id": self._category(prediction.labels[i]),
                "bbox": boxes[i].tolist(),
                "area": areas[i],
                "score": float(prediction.scores[i]),
                "iscrowd": 0,
                **self._outline(prediction, i),
            }
            for i in np.lexsort((prediction.labels, -prediction.scores)).tolist()
        ]

    def _category(self, label: np.int64) -> int:
        return 1 if self.class_agnostic else int(label) + 1

    def _outline(self, objects: Detections | ObjectAnnotation, i: int) -> dict[str, Any]:
        return {} if self.regions == "bbox" or objects.masks is None else {"segmentation": dict(objects.masks.rles[i])}


def _summarize(precision: NDArray[np.float64], recall: NDArray[np.float64], limits: Sequence[int]) -> ItemScores:
    """COCO's twelve summary metrics.

    Args:
        precision: (10 IoU thresholds, recalls, classes, sizes, limits); -1 where there is no annotated object.
        recall: (10, classes, sizes, limits), likewise.
        limits: of the last axis.
    """

    def average(values: NDArray[np.float64]) -> float | None:
        given = values[values > -1]
        return float(given.mean()) if given.size else None

    values: ItemScores = {"AP": average(precision[:, :, :, 0, -1])}
    values["AP50"], values["AP75"] = average(precision[0, :, :, 0, -1]), average(precision[5, :, :, 0, -1])
    for i, size in enumerate(_SIZES[1:], start=1):
        values[f"AP{size[0]}"] = average(precision[:, :, :, i, -1])
    for i, limit in enumerate(limits):
        values[f"AR{limit}"] = average(recall[:, :, 0, i])
    for i, size in enumerate(_SIZES[1:], start=1):
        values[f"AR{size[0]}"] = average(recall[:, :, i, -1])
    return values


def _xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _silent(*_: object) -> None:
    """Discards faster-coco-eval's progress messages."""
