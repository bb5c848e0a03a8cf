"""Instances reject inconsistent fields, equal pycocotools and a slow renderer, and behave the same when stored as RLE."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from pycocotools import mask as reference
from pycocotools.coco import COCO

from eigenseg.data import Instances, RleMasks, instances as module
from eigenseg.data.comparison import equal_values
from eigenseg.data.rle import BoolArray, encode_masks

# pycocotools' own result type does not know NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

SIZE = (7, 9)
# Few values, so that scores tie often.
scored = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=6)


def tight_box(mask: BoolArray) -> list[int]:
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]


def some_instances(scores: list[float], seed: int = 0, **more: Any) -> Instances:
    masks = np.random.default_rng(seed).random((len(scores), *SIZE)) < 0.3
    boxes = np.array([tight_box(mask) for mask in masks], dtype=np.float32).reshape(-1, 4)
    return Instances(masks, np.array(scores), boxes, SIZE, **more)


def as_rle(instances: Instances, monkeypatch: pytest.MonkeyPatch) -> Instances:
    monkeypatch.setattr(module, "DENSE_BYTES", 100)
    masks = np.asarray(instances.masks)
    return Instances(masks, instances.scores, instances.boxes, SIZE, instances.labels, extras=instances.extras)


def assert_same(one: Instances, other: Instances) -> None:
    for name in ("masks", "scores", "boxes", "labels"):
        np.testing.assert_array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name)), strict=True)
    assert {k: list(v) for k, v in one.extras.items()} == {k: list(v) for k, v in other.extras.items()}
    assert (one.image_size, one.names, one.metadata) == (other.image_size, other.names, other.metadata)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": np.zeros((2, 9, 7), bool)}, r"masks must be \(n, 7, 9\), got \(2, 9, 7\)"),
        ({"masks": np.zeros(SIZE, bool)}, r"masks must be \(n, 7, 9\), got \(7, 9\)"),
        ({"masks": np.zeros((2, *SIZE))}, "masks must be bool, got float64"),
        ({"masks": np.zeros((3, *SIZE), bool)}, "scores must be \\(3,\\) for 3 masks, got \\(2,\\)"),
        ({"scores": [0.1]}, "scores must be \\(2,\\) for 2 masks, got \\(1,\\)"),
        ({"scores": [0.5, 1.01]}, r"scores must lie in \[0, 1\], got \[0\.5, 1\.0"),
        ({"scores": [-0.5, 1.0]}, r"scores must lie in \[0, 1\], got \[-0\.5, 1\.0\]"),
        ({"scores": [0.5, np.nan]}, r"scores must lie in \[0, 1\], got \[0\.5, nan\]"),
        ({"boxes": [[0, 0, 1, 1]]}, "boxes must be \\(2, 4\\) for 2 masks, got \\(1, 4\\)"),
        ({"boxes": [[0, 0, 9, 7], [0, 0, 9.5, 7]]}, "boxes must be xyxy inside 9x7 pixels"),
        ({"boxes": [[0, 0, 9, 7], [0, 0, 7, 9]]}, "boxes must be xyxy inside 9x7 pixels"),
        ({"boxes": [[0, 0, 9, 7], [-0.1, 0, 1, 1]]}, "boxes must be xyxy inside 9x7 pixels"),
        ({"boxes": [[0, 0, 9, 7], [3, 0, 2, 1]]}, "boxes must be xyxy inside 9x7 pixels"),
        ({"boxes": [[0, 0, 9, 7], [0, 3, 1, 2]]}, "boxes must be xyxy inside 9x7 pixels"),
        ({"boxes": [[0, 0, 9, 7], [0, 0, np.nan, 2]]}, "boxes must be xyxy inside 9x7 pixels"),
        ({"labels": [0]}, "labels must be \\(2,\\) for 2 masks, got \\(1,\\)"),
        ({"labels": []}, "labels must be \\(2,\\) for 2 masks, got \\(0,\\)"),
        ({"labels": [0, 1]}, r"labels must index the 1 names, got \[0, 1\]"),
        ({"labels": [0, -1]}, r"labels must index the 1 names, got \[0, -1\]"),
        ({"extras": {"seed": [1, 2, 3]}}, r"extras\['seed'\] has 3 entries for 2 masks"),
    ],
)
def test_inconsistent_fields_are_rejected_by_name(changes: dict[str, Any], message: str) -> None:
    fitting = {"masks": np.zeros((2, *SIZE), bool), "scores": [0.0, 1.0], "boxes": [[0, 0, 9, 7], [1, 1, 1, 1]]}
    Instances(**fitting, image_size=SIZE)
    with pytest.raises(ValueError, match=message):
        Instances(**{**fitting, **changes}, image_size=SIZE)


def test_without_labels_everything_is_foreground() -> None:
    instances = some_instances([0.5, 0.5])
    assert (instances.labels.tolist(), instances.names) == ([0, 0], ("fg",))


@settings(deadline=None)
@given(scored, st.integers(0, 99))
def test_the_label_map_shows_the_highest_score_and_the_first_of_equals(scores: list[float], seed: int) -> None:
    instances = some_instances(scores, seed)
    expected = np.zeros(SIZE, dtype=np.int32)
    for y, x in np.ndindex(SIZE):
        here = [i for i in range(len(scores)) if instances.masks[i][y, x]]
        expected[y, x] = min(here, key=lambda i: (-scores[i], i)) + 1 if here else 0
    np.testing.assert_array_equal(instances.label_map(), expected, strict=True)


@settings(deadline=None)
@given(scored)
def test_sorting_is_by_descending_score_and_stable(scores: list[float]) -> None:
    instances = some_instances(scores, extras={"rank": list(range(len(scores)))})
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    assert instances.sorted().extras["rank"] == order
    assert_same(instances.sorted(), instances[order])


def test_an_index_selects_rows_of_all_fields_and_always_returns_instances() -> None:
    all_five = some_instances(
        [0.1, 0.2, 0.3, 0.4, 0.5], labels=[0, 1, 0, 1, 1], names=("a", "b"), extras={"map": np.arange(30).reshape(5, 2, 3)}
    )
    for index, rows in [(3, [3]), (-1, [4]), (slice(1, 3), [1, 2]), ([4, 0], [4, 0]), (all_five.scores > 0.25, [2, 3, 4])]:
        chosen = all_five[index]
        assert isinstance(chosen, Instances)
        np.testing.assert_array_equal(chosen.masks, np.stack([all_five.masks[i] for i in rows]))
        np.testing.assert_array_equal(chosen.scores, [all_five.scores[i] for i in rows])
        np.testing.assert_array_equal(chosen.boxes, [tight_box(all_five.masks[i]) for i in rows])
        assert chosen.labels.tolist() == [[0, 1, 0, 1, 1][i] for i in rows]
        assert [m.tolist() for m in chosen.extras["map"]] == [(np.arange(6).reshape(2, 3) + 6 * i).tolist() for i in rows]
    assert [float(one.scores[0]) for one in all_five] == [float(score) for score in all_five.scores]
    with pytest.raises(IndexError):
        all_five[5]


def test_masks_are_stored_as_rle_only_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE_BYTES", 2 * 7 * 9)
    assert isinstance(some_instances([0.5, 0.5]).masks, np.ndarray)
    assert isinstance(some_instances([0.5, 0.5, 0.5]).masks, RleMasks)


def test_the_limit_is_64_megabytes() -> None:
    side = 2**13  # one bool mask of 8192 x 8192 takes 64 MB exactly
    plain = Instances(np.zeros((1, side, side), bool), np.ones(1), np.zeros((1, 4)), (side, side))
    assert isinstance(plain.masks, np.ndarray)
    larger = Instances(np.zeros((1, side, side + 1), bool), np.ones(1), np.zeros((1, 4)), (side, side + 1))
    assert isinstance(larger.masks, RleMasks)


def test_all_methods_give_the_same_with_rle(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = some_instances([0.5, 0.25, 1.0, 0.5, 0.5], extras={"seed": [5, 4, 3, 2, 1]})
    kept = as_rle(dense, monkeypatch)
    assert isinstance(kept.masks, RleMasks)
    assert_same(kept, dense)
    np.testing.assert_array_equal(kept.areas(), dense.areas(), strict=True)
    np.testing.assert_array_equal(kept.label_map(), dense.label_map(), strict=True)
    assert kept.to_coco() == dense.to_coco()
    assert_same(kept.sorted(), dense.sorted())
    for index in (2, -1, slice(1, 4), [4, 0, 0], dense.scores == 0.5):
        assert_same(kept[index], dense[index])


@settings(deadline=None)
@given(scored, st.integers(0, 99))
def test_areas_count_pixels(scores: list[float], seed: int) -> None:
    instances = some_instances(scores, seed)
    counts = [sum(bool(mask[yx]) for yx in np.ndindex(SIZE)) for mask in instances.masks]
    np.testing.assert_array_equal(instances.areas(), np.array(counts, dtype=np.int64), strict=True)


def test_pycocotools_reads_annotations_as_ground_truth_and_as_results(tmp_path: Any) -> None:
    instances = some_instances([0.5, 0.25, 1.0], labels=[0, 1, 0], names=("fg", "other"))
    annotations = [{"id": i, "image_id": 7, **one} for i, one in enumerate(instances.to_coco(), start=1)]
    (tmp_path / "annotation.json").write_text(
        json.dumps(
            {
                "info": {},
                "images": [{"id": 7, "height": SIZE[0], "width": SIZE[1]}],
                "annotations": annotations,
                "categories": [{"id": 1, "name": "fg"}, {"id": 2, "name": "other"}],
            }
        )
    )
    annotation = COCO(str(tmp_path / "annotation.json"))
    results = annotation.loadRes([dict(one) for one in annotations])
    for i, mask in enumerate(np.asarray(instances.masks)):
        for coco in (annotation, results):
            loaded = coco.loadAnns(i + 1)[0]
            np.testing.assert_array_equal(coco.annToMask(loaded), mask)
            assert loaded["bbox"] == reference.toBbox(loaded["segmentation"]).tolist()
            assert loaded["score"] == instances.scores[i]
            assert loaded["category_id"] == [1, 2, 1][i]
        assert annotation.loadAnns(i + 1)[0]["area"] == mask.sum()
    assert annotation.getAnnIds(imgIds=7, catIds=2) == [2]


def test_only_extras_that_are_numbers_or_pairs_are_written_to_coco() -> None:
    extras = {
        "seed": np.array([3, 4]), "gap": [0.5, np.float32(0.25)], "at": np.array([[1, 2], [3, 4]]),
        "proven": [True, False], "eigenvector": np.ones((2, 3, 3)), "source": ["a", "b"],
    }  # fmt: skip
    plain = some_instances([0.5, 0.5]).to_coco()
    annotations = some_instances([0.5, 0.5], extras=extras).to_coco()
    added = [{k: v for k, v in one.items() if k not in plain[0]} for one in json.loads(json.dumps(annotations))]
    assert added == [
        {"seed": 3, "gap": 0.5, "at": [1, 2], "proven": True},
        {"seed": 4, "gap": 0.25, "at": [3, 4], "proven": False},
    ]


def test_an_empty_result_has_a_reason_and_no_instances() -> None:
    nothing = Instances.empty((3, 4), "the image has one color", gap=0.0)
    assert nothing.reason == "the image has one color"
    assert nothing.metadata == {"reason": "the image has one color", "gap": 0.0}
    assert (len(nothing), list(nothing), nothing.to_coco(), nothing.areas().tolist()) == (0, [], [], [])
    np.testing.assert_array_equal(nothing.label_map(), np.zeros((3, 4), np.int32))
    assert len(nothing.sorted()) == 0
    assert some_instances([0.5]).reason is None


@pytest.mark.parametrize("name", ["scores", "labels"])
def test_a_column_instead_of_a_vector_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Instances(**{"masks": np.zeros((2, *SIZE), bool), "scores": [0, 0], "boxes": np.zeros((2, 4)), name: [[0], [0]]},
                  image_size=SIZE)  # fmt: skip


def test_numbers_in_files_have_seven_digits_and_integers_stay_integers() -> None:
    extras = {"gap": [0.17170800001612363], "seed": [123456789012345], "point": [np.array([0.1, 1 / 3])]}
    instances = Instances(np.ones((1, *SIZE), bool), np.ones(1), np.array([[0, 0, 1, 1]]), SIZE, extras=extras)
    (annotation,) = instances.to_coco()
    assert annotation["gap"] == 0.171708
    assert annotation["seed"] == 123456789012345
    assert annotation["point"] == [0.1, 0.3333333]


def test_masks_of_another_type_are_rejected() -> None:
    with pytest.raises(TypeError, match=r"masks must be a NumPy array \(n, H, W\) or RleMasks, got list"):
        Instances([np.ones(SIZE, bool)], np.ones(1), np.zeros((1, 4)), SIZE)  # type: ignore[arg-type]


def test_boxes_that_are_not_n_by_4_are_rejected() -> None:
    with pytest.raises(ValueError, match="boxes"):
        Instances(np.zeros((2, *SIZE), bool), np.ones(2), np.array([[0, 1], [0, 1], [5, 6], [5, 6]]), SIZE)


def test_a_saliency_map_is_the_soft_map_or_the_union_of_masks() -> None:
    masks = np.zeros((2, 4, 5), dtype=bool)
    masks[0, 1, 1:3], masks[1, 2, 2] = True, True
    boxes = np.array([[0, 0, 5, 4]] * 2, dtype=np.float32)
    hard = Instances(masks, np.array([0.2, 0.9]), boxes, (4, 5))
    np.testing.assert_array_equal(hard.saliency_map(), masks.any(axis=0) * np.uint8(255))
    soft = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    made = Instances(masks, np.array([0.2, 0.9]), boxes, (4, 5), metadata={"saliency": soft}).saliency_map()
    np.testing.assert_allclose(made / 255, soft, atol=0.5 / 255 + 1e-6)


@given(st.floats(0, 1, width=32))
def test_a_soft_value_is_above_one_half_in_eight_bits_if_it_is(value: float) -> None:
    soft = np.full((1, 1), value, dtype=np.float32)
    made = Instances.empty((1, 1), "soft", saliency=soft).saliency_map()
    assert bool(made[0, 0] / 255 > 0.5) == (value > 0.5)


def test_a_saliency_map_without_instances_is_black() -> None:
    assert not Instances.empty((3, 4), "nothing").saliency_map().any()


def two(**changes: Any) -> Instances:
    fields: dict[str, Any] = {
        "masks": np.random.default_rng(3).random((2, *SIZE)) < 0.5,
        "scores": np.array([0.25, 0.5]),
        "boxes": np.array([[0, 0, 9, 7], [1, 2, 3, 4]]),
        "image_size": SIZE,
        "labels": [0, 1],
        "names": ("a", "b"),
        "extras": {"seed": [3, 4], "map": np.arange(8.0).reshape(2, 2, 2), "at": [(1, 2), None]},
        "metadata": {"reason": "r", "gap": float("nan"), "saliency": np.array([np.nan, 1], dtype=np.float32)},
    }
    return Instances(**{**fields, **changes})


@pytest.mark.parametrize("stored", [lambda masks: masks, lambda masks: RleMasks(encode_masks(masks), SIZE)])
def test_instances_are_equal_whatever_the_storage_of_their_masks(stored: Any) -> None:
    masks = np.asarray(two().masks)
    other = two(masks=stored(masks))
    assert other.equals(two())
    assert two().equals(other)
    changed = masks.copy()
    changed[1, 6, 8] ^= True
    assert not other.equals(two(masks=changed))
    assert not other.equals(two(masks=RleMasks(encode_masks(changed), SIZE)))
    assert two()[[1, 0]][[1, 0]].equals(two())


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.array([0.25, np.nextafter(np.float32(0.5), np.float32(1))])},
        {"boxes": np.array([[0, 0, 9, 7], [1, 2, 3, np.nextafter(np.float32(4), np.float32(5))]])},
        {"labels": [1, 1]},
        {"names": ("a", "c")},
        {"names": ("a", "b", "c")},
        {"extras": {}},
        {"extras": {**two().extras, "seed": [3, 5]}},
        {"extras": {**two().extras, "map": np.arange(8).reshape(2, 2, 2)}},
        {"extras": {**two().extras, "at": [(1, 2), (1, 2)]}},
        {"metadata": {**two().metadata, "more": 1}},
        {"metadata": {**two().metadata, "gap": 0.0}},
        {"metadata": {**two().metadata, "saliency": np.array([np.nan, 1])}},
    ],
)
def test_any_other_value_of_a_field_makes_instances_unequal(changes: dict[str, Any]) -> None:
    assert not two().equals(two(**changes))
    assert not two(**changes).equals(two())


def test_instances_of_other_sizes_counts_and_types_are_unequal() -> None:
    nothing = Instances.empty((3, 4), "r")
    assert nothing.equals(Instances.empty((3, 4), "r"))
    assert not nothing.equals(Instances.empty((4, 3), "r"))
    assert not two().equals(two()[:1])
    assert not two().equals(None)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (np.float32(1), 1.0, True),
        (1, 1.0, True),
        (np.float32(0.1), 0.1, False),
        (float(np.float32(0.1)), np.float32(0.1), True),
        (True, 1, False),
        (np.True_, True, True),
        (np.nan, np.float32("nan"), True),
        (np.nan, 0.0, False),
        (2**53, 2.0**53, True),
        (2**53 + 1, 2.0**53, False),
        ("a", "a", True),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
        ((1, [2, np.nan]), [1, (2, np.nan)], True),
        ([1, 2], [1, 2, 3], False),
        ([1, 2], "12", False),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        (np.zeros(2), [0.0, 0.0], False),
        (np.zeros(()), 0.0, False),
        (np.zeros((2, 1)), np.zeros((1, 2)), False),
        (np.zeros(2), np.zeros(2, np.float32), False),
        (np.array(["a", "b"]), np.array(["a", "b"]), True),
        (np.array([1 + 1j, np.nan]), np.array([1 + 1j, np.nan]), True),
        (np.array([[1, 2], None], object), np.array([[1, 2], None], object), True),
        (np.array([[1, 2], None], object), np.array([[1, 3], None], object), False),
        (np.zeros(3), np.zeros(6)[::2], True),
    ],
    ids=repr,
)
def test_values_are_compared_as_the_table_says(one: Any, other: Any, equal: bool) -> None:
    assert equal_values(one, other) is equal
    assert equal_values(other, one) is equal


def test_instances_are_printed_in_one_line() -> None:
    assert repr(Instances.empty((3, 4), "one color")) == "Instances(0 in 3 x 4 (H x W): one color)"
    masks = np.ones((12, 3, 4), dtype=bool)
    several = Instances.from_masks(masks, np.linspace(1, 0, 12))
    assert repr(several[:2]) == "Instances(2 in 3 x 4 (H x W): scores [1, 0.909])"
    assert repr(several).endswith("0.182, ...])")
