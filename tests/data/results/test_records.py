"""A result that went through its line of json is the result again, down to the last bit and type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as st_numpy
from pycocotools import mask as coco_mask

from eigenseg.data import Geometry, Instances, RleMasks, encode_masks
from eigenseg.data.results.encoding import AbsentArray
from eigenseg.data.results.records import SCHEMA, Record
from eigenseg.data.tracks import Tracks

# pycocotools' own result type does not know NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

SIZE = (5, 7)
DTYPES = ("bool", "uint8", "int64", "float16", "float32", "float64", ">f4", ">i2")

text = st.text(st.characters(exclude_categories=()), max_size=6)  # lone surrogates too: file names that are not UTF-8
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
scalars = st.sampled_from(DTYPES[:6]).flatmap(lambda name: st_numpy.from_dtype(np.dtype(name)))
arrays = st.sampled_from(DTYPES).flatmap(
    lambda name: st_numpy.arrays(np.dtype(name), st_numpy.array_shapes(min_dims=0, min_side=0, max_side=4))
)
geometries = st.just(Geometry((30, 45), (30, 45), (32, 48), 16))
values = st.recursive(
    st.one_of(plain, scalars, arrays, geometries),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(text, st.just("$tuple"), st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)
unit = st.floats(0, 1, width=32)


def rows(count: int) -> st.SearchStrategy[Any]:
    """An entry of extras: a list, a tuple or an array with a row per instance."""
    shapes = st_numpy.array_shapes(max_dims=2, max_side=5).map(lambda shape: (count, *shape))
    stacked = st.sampled_from(DTYPES).flatmap(lambda name: st_numpy.arrays(np.dtype(name), shapes))
    lists = st.lists(values, min_size=count, max_size=count)
    return st.one_of(lists, lists.map(tuple), stacked, st_numpy.arrays(np.float64, (count,)))


@st.composite
def instances(draw: st.DrawFn) -> Instances:
    count = draw(st.integers(0, 3))
    masks = draw(st_numpy.arrays(bool, (count, *SIZE)))
    corners = np.sort(draw(st_numpy.arrays(np.float32, (count, 2, 2), elements=unit)), axis=1).reshape(count, 4)
    names = tuple(draw(st.lists(text, min_size=1, max_size=3)))
    return Instances(
        masks=RleMasks(encode_masks(masks), SIZE) if draw(st.booleans()) else masks,
        scores=draw(st_numpy.arrays(np.float32, count, elements=unit)),
        boxes=corners * np.float32(5),
        image_size=SIZE,
        labels=draw(st_numpy.arrays(np.int64, count, elements=st.integers(0, len(names) - 1))),
        names=names,
        extras=draw(st.dictionaries(text, rows(count), max_size=3)),
        metadata=draw(st.dictionaries(text, values, max_size=3)),
    )


@st.composite
def tracks(draw: st.DrawFn) -> Tracks:
    count, frames = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    present = draw(st_numpy.arrays(bool, (count, frames)))
    present[:, 0] |= ~present.any(axis=1)
    masks = draw(st_numpy.arrays(bool, (count, frames, *SIZE)))
    masks[..., 0, 0] = True
    scores = draw(st_numpy.arrays(np.float32, (count, frames), elements=unit))
    return Tracks(
        masks=tuple(
            tuple(rle if shown else None for rle, shown in zip(encode_masks(track), row, strict=True))
            for track, row in zip(masks, present, strict=True)
        ),
        scores=draw(st_numpy.arrays(np.float32, count, elements=unit)),
        track_ids=np.array(draw(st.lists(st.integers(1, 2**62), min_size=count, max_size=count, unique=True)), np.int64),
        frame_names=tuple(draw(st.lists(text, min_size=frames, max_size=frames, unique=True))),
        image_size=SIZE,
        frame_scores=np.where(present, scores, np.float32(np.nan)),
        frame_rate=draw(st.one_of(st.none(), st.floats(1, 100))),
        extras=draw(st.dictionaries(text, rows(count), max_size=2)),
        metadata=draw(st.dictionaries(text.filter(lambda name: name != "unreadable"), values, max_size=2)),
    )


def through_a_line(record: Record) -> Record:
    line = record.to_line()
    assert b"\n" not in line
    return Record.from_line(line)


def types(value: Any) -> Any:
    """The types within a value; lists and tuples, and the dtypes and shapes of arrays, are told apart."""
    if isinstance(value, Mapping):
        return {key: types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (type(value), [types(item) for item in value])
    return (type(value), value.dtype.str, value.shape) if isinstance(value, np.ndarray) else type(value)


@settings(deadline=None, max_examples=70)
@given(instances())
def test_instances_come_back_exactly(original: Instances) -> None:
    record = Record.of("a.jpg", [1, 2], original, 3.0)
    read = through_a_line(record).with_arrays(record.arrays)
    assert read.instances().equals(original)
    assert types(read.instances().extras) == types(original.extras)
    assert types(read.instances().metadata) == types(original.metadata)
    assert record.instances() is original


@settings(deadline=None, max_examples=50)
@given(tracks())
def test_tracks_come_back_exactly(original: Tracks) -> None:
    record = Record.of("clip", [1, 2, 3], original, 3.0)
    read = through_a_line(record).with_arrays(record.arrays)
    assert read.kind == "clip"
    assert read.tracks().equals(original)
    assert types(read.tracks().extras) == types(original.extras)
    assert record.tracks() is original


@settings(deadline=None, max_examples=30)
@given(instances())
def test_a_line_that_was_read_is_written_as_it_was(original: Instances) -> None:
    line = Record.of("a.jpg", None, original, 3.0).to_line()
    assert Record.from_line(line).to_line() == line


def test_zero_keeps_its_sign_and_not_a_number_its_place() -> None:
    original = Instances.empty((2, 3), "none", number=-0.0, pair=[float("nan"), np.float32("-inf")], array=np.array([-0.0]))
    read = through_a_line(Record.of("a", None, original)).instances().metadata
    assert str(read["number"]) == "-0.0"
    assert np.signbit(read["array"][0])
    assert np.isnan(read["pair"][0])
    assert (type(read["pair"][1]), float(read["pair"][1])) == (np.float32, float("-inf"))


def test_annotations_for_coco_are_the_same_after_reading() -> None:
    extras = {
        "seed": [3],
        "gap": [np.float32(1 / 3)],
        "point": [(np.float64(1.5), 2)],
        "status": ["ok"],
        "small": np.ones((1, 2)),
    }
    original = Instances(np.ones((1, *SIZE), bool), [1 / 3], [[0, 0, 1 / 3, 2]], SIZE, extras=extras)
    read = through_a_line(Record.of("a", None, original)).instances()
    assert json.dumps(read.to_coco()) == json.dumps(original.to_coco())


def test_scores_and_boxes_are_equal_bit_by_bit() -> None:
    scores = np.nextafter(np.float32(0.1), np.float32(1), dtype=np.float32).repeat(2)
    boxes = np.array([[0, 1e-30, 1 / 3, 2], [0, 0, 6.9999995, 4.9999995]], dtype=np.float32)
    original = Instances(np.ones((2, *SIZE), bool), scores, boxes, SIZE)
    read = through_a_line(Record.of("a", None, original)).instances()
    assert (read.scores.tobytes(), read.boxes.tobytes()) == (scores.tobytes(), boxes.tobytes())


def test_masks_are_coco_run_lengths_that_other_programs_decode() -> None:
    masks = np.random.default_rng(0).random((2, *SIZE)) > 0.5
    line = json.loads(Record.of("a", None, Instances(masks, [1, 1], np.zeros((2, 4)), SIZE)).to_line())
    for counts, mask in zip(line["result"]["masks"], masks, strict=True):
        np.testing.assert_array_equal(coco_mask.decode({"size": list(SIZE), "counts": counts}), mask)


@pytest.mark.parametrize("side", [4, 5])
def test_maps_stay_out_of_the_line_and_leave_their_dtype_and_shape(side: int) -> None:
    vectors = np.arange(2 * side * side, dtype=np.float32).reshape(2, side, side)
    original = Instances(
        np.ones((2, *SIZE), bool), [1, 0.5], np.zeros((2, 4)), SIZE, extras={"map": vectors, "list": list(vectors)}
    )
    record = Record.of("a", None, original)
    read = through_a_line(record)
    if side == 4:  # a 4x4 matrix is a parameter, not a map
        assert record.arrays == {} == read.array_shapes()
        assert read.instances().equals(original)
        return
    names = ["extras.map.0", "extras.map.1", "extras.list.0", "extras.list.1"]
    assert list(record.arrays) == list(read.array_shapes()) == names
    assert read.instances().extras["map"] == [AbsentArray("<f4", (5, 5))] * 2
    assert read.instances().to_coco() == original.to_coco()
    with pytest.raises(ValueError, match=r"a: array extras\.map\.0 is <f8 \(5, 5\)"):
        read.with_arrays({"extras.map.0": vectors[0].astype(float)})


def test_many_numbers_one_per_instance_stay_in_the_line() -> None:
    count = 40
    original = Instances(
        np.ones((count, *SIZE), bool), np.ones(count), np.zeros((count, 4)), SIZE, extras={"gap": np.arange(count) / 7}
    )
    assert through_a_line(Record.of("a", None, original)).instances().equals(original)


def test_arrays_whose_names_would_be_equal_are_both_kept() -> None:
    one, two = np.arange(20), np.arange(20) + 1
    original = Instances.empty(SIZE, "none", **{"a.b": one, "a": {"b": two}})
    record = Record.of("a", None, original)
    assert through_a_line(record).with_arrays(record.arrays).instances().equals(original)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({1, 2}, "a set"),
        (object(), "a object"),
        (b"bytes", "a bytes"),
        (np.array([object()]), "dtype object"),
        (np.zeros(30, dtype=complex), "dtype complex128"),
        (np.complex64(1), "dtype complex64"),
    ],
)
def test_what_json_cannot_hold_is_named(value: Any, what: str) -> None:
    with pytest.raises(ValueError, match=rf"metadata\['x'\] h.*{what}"):
        Record.of("a", None, Instances.empty(SIZE, "none", x=[{"deep": value}]))
    one = Instances(np.ones((1, *SIZE), bool), [1], np.zeros((1, 4)), SIZE, extras={"x": [value]})
    with pytest.raises(ValueError, match=rf"extras\['x'\] h.*{what}"):
        Record.of("a", None, one)


def test_a_failure_keeps_its_error_and_has_no_result() -> None:
    read = through_a_line(Record.failure("a/b.jpg", "image", [5, 6], "it is truncated"))
    assert (read.name, read.kind, read.status, read.stamp) == ("a/b.jpg", "image", "failed", [5, 6])
    assert (read.error, read.done, read.image_size) == ("it is truncated", False, None)
    with pytest.raises(ValueError, match="a/b.jpg failed, it has no instances"):
        read.instances()


def test_a_record_knows_count_size_reason_and_unreadable_frames() -> None:
    clip = Tracks.empty(("0", "1"), (4, 6), "nothing moves", unreadable={"1": "frame 1 is damaged"})
    read = through_a_line(Record.of("clip", [2, 10, 7], clip, 12.346))
    assert (read.count, read.image_size, read.reason, read.milliseconds) == (0, (4, 6), "nothing moves", 12.35)
    assert read.unreadable == {"1": "frame 1 is damaged"}
    with pytest.raises(ValueError, match="clip is the record of a clip, it has no instances"):
        read.instances()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../../b", ".."])
def test_a_name_outside_the_folder_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="name must be a path below the input"):
        Record.failure(name, "image", None, "x")


def test_lines_of_other_schemas_and_other_programs_are_rejected() -> None:
    line = json.loads(Record.of("a", None, Instances.empty(SIZE, "none")).to_line())
    with pytest.raises(ValueError, match=f"schema {SCHEMA + 1}, this version reads {SCHEMA}"):
        Record.from_line(json.dumps({**line, "schema": SCHEMA + 1}).encode())
    for other in ({**line, "kind": "sound"}, {**line, "count": "1"}, {"image": "a"}, [1], "a"):
        with pytest.raises(ValueError, match="."):
            Record.from_line(json.dumps(other).encode())
    for content in (b"", b"{", b"\xff"):
        with pytest.raises(ValueError, match="."):
            Record.from_line(content)


def test_a_damaged_result_is_named() -> None:
    record = through_a_line(Record.of("a", None, Instances.empty(SIZE, "none")))
    assert record.content is not None
    broken = replace(record, content={**record.content, "scores": [0.5]})
    with pytest.raises(ValueError, match="the record of a is damaged"):
        broken.instances()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": "high"}, 'scores must be a list, got "high"'),
        ({"masks": [5]}, r"masks\[0\] must be text, got 5"),
        ({"masks": ["0"], "scores": [1], "labels": [0], "boxes": [[0, 0, 1, 1]]}, "its runs cover 0 pixels, the image has"),
        ({"extras": {"a": {"$scalar": "V9999999", "value": 1}}}, r"no value is stored with dtype \|V9999999"),
        ({"extras": {"a": {}}}, r"extras\['a'\] must have an entry for each mask, got a dict"),
        ({"extras": {"a": {"$unknown": 1}}}, r"KeyError: '\$unknown'"),
        ({"metadata": 3}, "metadata must be an object of keys and values, got 3"),
    ],
)
def test_a_result_of_another_shape_is_named(changes: dict[str, Any], message: str) -> None:
    line = json.loads(Record.of("a", None, Instances.empty(SIZE, "none")).to_line())
    record = Record.from_line(json.dumps({**line, "result": {**line["result"], **changes}}).encode())
    with pytest.raises(ValueError, match=rf"^the record of a is damaged: .*{message}"):
        record.instances()


def test_a_result_without_a_key_says_so_also_where_its_arrays_are_asked_for() -> None:
    line = json.loads(Record.of("a", None, Instances.empty(SIZE, "none")).to_line())
    del line["result"]["metadata"]
    record = Record.from_line(json.dumps(line).encode())
    with pytest.raises(ValueError, match=r"the record of a is damaged: .*metadata is missing"):
        record.instances()
    with pytest.raises(ValueError, match=r"the record of a is damaged: KeyError: 'metadata'"):
        record.array_shapes()


@pytest.mark.parametrize("changes", [{"count": -1}, {"count": 10**12}, {"unreadable": [1]}])
def test_an_outline_of_another_shape_is_rejected(changes: dict[str, Any]) -> None:
    line = json.loads(Record.of("a", None, Instances.empty(SIZE, "none")).to_line())
    with pytest.raises(ValueError, match=r"at `\$\."):
        Record.from_line(json.dumps({**line, **changes}).encode())
    with pytest.raises(ValueError, match="it is nested too deeply"):
        Record.from_line(b'{"schema": 2, "result": ' + b'{"a":' * 10**5)
