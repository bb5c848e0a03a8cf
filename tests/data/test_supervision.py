"""Instances survive the way to supervision's Detections and back, and Detections of other models are read."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eigenseg.data import Instances, RleMasks, encode_masks

SIZE = (7, 9)
needs_supervision = pytest.mark.skipif(
    importlib.util.find_spec("supervision") is None, reason="supervision is not installed, which is optional"
)


def some_instances(count: int = 3, **more: Any) -> Instances:
    generator = np.random.default_rng(0)
    corners = np.sort(generator.random((count, 2, 2)).astype(np.float32), axis=1) * np.array(SIZE[::-1], dtype=np.float32)
    masks = generator.random((count, *SIZE)) < 0.3
    return Instances(masks, generator.random(count), corners.reshape(count, 4), SIZE, **more)


def full_instances(count: int = 3) -> Instances:
    return some_instances(
        count,
        labels=np.array([2, 0, 2])[:count],
        names=("fg", "unused", "ä b"),
        extras={
            "seed": [5, 4, 3][:count],
            "eigenvector": np.arange(18.0).reshape(3, 2, 3)[:count],
            "source": ("a", "b", "c")[:count],
            "tracker_id": np.array([7, 8, 9])[:count],
        },
        metadata={"saliency": np.ones(SIZE, dtype=np.float32), "gap": 0.5},
    )


def assert_equal(one: Instances, other: Instances) -> None:
    for name in ("masks", "scores", "boxes", "labels"):
        np.testing.assert_array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name)), strict=True)
    assert (one.image_size, one.names) == (other.image_size, other.names)
    for mine, theirs in ((one.extras, other.extras), (one.metadata, other.metadata)):
        assert mine.keys() == theirs.keys()
        for name in mine:
            np.testing.assert_array_equal(np.asarray(mine[name]), np.asarray(theirs[name]), strict=True)


def detections(**changes: Any) -> Any:
    """Detections of two objects as another model would give them."""
    supervision = pytest.importorskip("supervision")
    fields = {"xyxy": np.array([[0, 0, 4, 3], [1.5, 2, 9, 7]]), "mask": np.ones((2, *SIZE), dtype=bool)}
    return supervision.Detections(**{**fields, **changes})


@needs_supervision
@pytest.mark.parametrize("instances", [full_instances(), full_instances(1), full_instances(0), some_instances()])
def test_a_round_trip_is_exact(instances: Instances) -> None:
    assert_equal(Instances.from_supervision(instances.to_supervision(), SIZE), instances)


@needs_supervision
def test_the_fields_of_detections_are_those_that_supervision_uses() -> None:
    instances = full_instances()
    converted = instances.to_supervision()
    np.testing.assert_array_equal(converted.xyxy, instances.boxes)
    np.testing.assert_array_equal(converted.mask, instances.masks, strict=True)
    np.testing.assert_array_equal(converted.confidence, instances.scores, strict=True)
    assert converted.class_id.tolist() == [2, 0, 2]
    assert converted["class_name"].tolist() == ["ä b", "fg", "ä b"]
    assert converted.tracker_id.tolist() == [7, 8, 9]
    assert set(converted.data) == {"seed", "eigenvector", "source", "class_name"}
    np.testing.assert_array_equal(converted.area, instances.areas())


@needs_supervision
def test_detections_that_supervision_selected_are_the_selected_instances() -> None:
    instances = full_instances()
    selected = instances.to_supervision()[np.array([True, False, True])]
    assert_equal(Instances.from_supervision(selected, SIZE), instances[[0, 2]])


@needs_supervision
def test_rle_masks_are_decoded_and_empty_results_keep_their_reason() -> None:
    instances = some_instances()
    rle = RleMasks(encode_masks(np.asarray(instances.masks)), SIZE)
    converted = Instances(rle, instances.scores, instances.boxes, SIZE).to_supervision()
    np.testing.assert_array_equal(converted.mask, instances.masks, strict=True)
    empty = Instances.empty(SIZE, "the image has one color")
    assert Instances.from_supervision(empty.to_supervision(), SIZE).reason == "the image has one color"


@needs_supervision
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_boxes_of_other_types_are_converted_and_clipped_to_the_image(dtype: type) -> None:
    xyxy = np.array([[-2, 0, 4, 3], [1, 2, 10, 8]], dtype=dtype)
    instances = Instances.from_supervision(detections(xyxy=xyxy), SIZE)
    expected = np.array([[0, 0, 4, 3], [1, 2, 9, 7]], dtype=np.float32)
    np.testing.assert_array_equal(instances.boxes, expected, strict=True)


@needs_supervision
def test_without_confidence_scores_are_1_and_without_classes_everything_is_foreground() -> None:
    instances = Instances.from_supervision(detections(), SIZE)
    np.testing.assert_array_equal(instances.scores, np.ones(2, dtype=np.float32), strict=True)
    assert (instances.labels.tolist(), instances.names) == ([0, 0], ("fg",))
    assert (instances.extras, instances.metadata) == ({}, {})


@needs_supervision
@pytest.mark.parametrize(
    ("class_id", "class_name", "labels", "names"),
    [
        ([3, 1], ["dog", "cat"], [3, 1], ("class_0", "cat", "class_2", "dog")),
        ([2, 0], None, [2, 0], ("class_0", "class_1", "class_2")),
        (None, ["dog", "cat"], [1, 0], ("cat", "dog")),
        (None, ["cat", "cat"], [0, 0], ("cat",)),
    ],
)
def test_classes_of_another_model_keep_their_ids_and_names(
    class_id: list[int] | None, class_name: list[str] | None, labels: list[int], names: tuple[str, ...]
) -> None:
    data = {} if class_name is None else {"class_name": np.array(class_name)}
    ids = None if class_id is None else np.array(class_id)
    instances = Instances.from_supervision(detections(class_id=ids, data=data), SIZE)
    assert (instances.labels.tolist(), instances.names, instances.extras) == (labels, names, {})


@needs_supervision
def test_detections_without_masks_are_rejected_unless_they_are_empty() -> None:
    with pytest.raises(ValueError, match=r"^detections have no masks; Instances need mask \(n, H, W\)"):
        Instances.from_supervision(detections(mask=None), SIZE)
    empty = Instances.from_supervision(detections().empty(), SIZE)
    assert (len(empty), empty.masks.shape, empty.names) == (0, (0, *SIZE), ("fg",))


@needs_supervision
def test_masks_of_another_size_and_objects_of_another_type_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"masks must be \(n, 9, 7\), got \(2, 7, 9\)"):
        Instances.from_supervision(detections(), (9, 7))
    with pytest.raises(TypeError, match=r"^detections must be supervision\.Detections, got SimpleNamespace$"):
        Instances.from_supervision(SimpleNamespace(xyxy=[]), SIZE)


@needs_supervision
def test_a_class_with_two_names_and_extras_named_like_class_names_are_rejected() -> None:
    with pytest.raises(ValueError, match="class_id 1 has the names 'cat' and 'dog'; give each class one name"):
        Instances.from_supervision(
            detections(class_id=np.array([1, 1]), data={"class_name": np.array(["cat", "dog"])}), SIZE
        )
    with pytest.raises(ValueError, match=r"^extras\['class_name'\] would be overwritten"):
        some_instances(extras={"class_name": [1, 2, 3]}).to_supervision()
    with pytest.raises(ValueError, match=r"^metadata\['eigenseg\.names'\] would be overwritten"):
        some_instances(metadata={"eigenseg.names": ()}).to_supervision()


def test_without_supervision_both_directions_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    sentence = r"^converting supervision\.Detections needs supervision: pip install supervision$"
    with pytest.raises(ImportError, match=sentence):
        some_instances().to_supervision()
    with pytest.raises(ImportError, match=sentence):
        Instances.from_supervision(SimpleNamespace(), SIZE)
