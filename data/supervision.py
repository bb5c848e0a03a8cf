"""Conversion of instances to and from ``supervision.Detections``, for its annotators, trackers and metrics.

==========================  ====================================================================
Instances                   Detections
==========================  ====================================================================
``boxes``                   ``xyxy``
``masks``                   ``mask``
``scores``                  ``confidence``
``labels``                  ``class_id``
``names``                   ``data["class_name"]``, and all of them ``metadata["eigenseg.names"]``
``extras["tracker_id"]``    ``tracker_id``
other ``extras``            ``data``
``metadata``                ``metadata``
==========================  ====================================================================

``supervision.Detections.merge`` needs equal metadata; clear ``metadata`` of detections of several images before merging.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

# Labels alone do not tell the names of classes without an instance.
NAMES = "eigenseg.names"


def to_supervision(instances: Any) -> Any:
    """Convert to ``supervision.Detections``; RLE masks are decoded.

    Args:
        instances: ``Instances``; ``extras["tracker_id"]``, if present, must be n integers.

    Returns:
        Detections with xyxy (n, 4) float32, mask (n, H, W) bool, confidence (n,) float32 and class_id (n,) int64.

    Raises:
        ImportError: if supervision is not installed.
        ValueError: if extras or metadata use a key that is reserved for class names.
    """
    supervision = _import_supervision()
    for field, key in (("extras", "class_name"), ("metadata", NAMES)):
        if key in getattr(instances, field):
            raise ValueError(f"{field}[{key!r}] would be overwritten by the names of the classes; rename it")
    data = {name: values if isinstance(values, np.ndarray) else list(values) for name, values in instances.extras.items()}
    tracker_id = data.pop("tracker_id", None)
    return supervision.Detections(
        xyxy=instances.boxes,
        mask=np.asarray(instances.masks),
        confidence=instances.scores,
        class_id=instances.labels,
        tracker_id=None if tracker_id is None else np.asarray(tracker_id, dtype=np.int64),
        data={**data, "class_name": np.array([instances.names[label] for label in instances.labels], dtype=np.str_)},
        metadata={**instances.metadata, NAMES: instances.names},
    )


def from_supervision(detections: Any, image_size: tuple[int, int]) -> dict[str, Any]:
    """Read ``supervision.Detections``.

    Args:
        detections: with masks. Boxes are clipped to the image; scores are 1 without confidence.
        image_size: (H, W) in pixels.

    Returns:
        The arguments of ``Instances``. A class without a name is called ``class_<id>``; without ``class_id`` the classes
        are the distinct class names, or foreground.

    Raises:
        ImportError: if supervision is not installed.
        TypeError: if these are not ``supervision.Detections``.
        ValueError: if masks are missing, a class_id is not an integer of at least 0, or a class has two names.
    """
    if not isinstance(detections, _import_supervision().Detections):
        raise TypeError(f"detections must be supervision.Detections, got {type(detections).__name__}")
    count, (height, width) = len(detections), image_size
    if detections.mask is None and count:
        raise ValueError("detections have no masks; Instances need mask (n, H, W), as from a segmentation model")
    masks = np.zeros((0, *image_size)) if detections.mask is None else np.asarray(detections.mask)
    scores, extras, metadata = detections.confidence, dict(detections.data), dict(detections.metadata)
    if detections.tracker_id is not None:
        extras["tracker_id"] = detections.tracker_id
    return {
        "masks": masks.astype(bool),
        "scores": np.ones(count, dtype=np.float32) if scores is None else scores,
        "boxes": np.clip(detections.xyxy, 0, [width, height, width, height]),
        "image_size": image_size,
        **_classes(detections.class_id, extras.pop("class_name", None), metadata.pop(NAMES, ())),
        "extras": extras,
        "metadata": metadata,
    }


def _classes(class_id: Any, class_names: Any, all_names: Any) -> dict[str, Any]:
    if class_id is None and class_names is None:
        return {}
    if class_id is None:
        distinct, labels = np.unique(np.asarray(class_names, dtype=np.str_), return_inverse=True)
        return {"labels": labels, "names": tuple(distinct.tolist())} if len(distinct) else {}
    if np.asarray(class_id).dtype.kind not in "iu" or (len(class_id) and min(class_id) < 0):
        raise ValueError(f"class_id must be integers of at least 0, got {np.asarray(class_id).tolist()}")
    ids, names = class_id.tolist(), [] if class_names is None else [str(name) for name in class_names]
    by_id = dict(zip(ids, names, strict=False))
    for label, name in zip(ids, names, strict=False):
        if by_id[label] != name:
            raise ValueError(f"class_id {label} has the names {name!r} and {by_id[label]!r}; give each class one name")
    by_id = {**dict(enumerate(all_names)), **by_id}
    classes = range(max([*by_id, *ids], default=-1) + 1)
    return {"labels": class_id, "names": tuple(by_id.get(i, f"class_{i}") for i in classes)} if classes else {}


def _import_supervision() -> Any:
    try:
        return importlib.import_module("supervision")
    except ImportError:
        raise ImportError("converting supervision.Detections needs supervision: pip install supervision") from None
