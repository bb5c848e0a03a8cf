"""Linking follows its rule: against all assignments, on cases worked by hand, and as a clip of any length."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from numpy.typing import NDArray

from eigenseg.data import Instances, RleMasks, Tracks, encode_masks
from eigenseg.video import Linker, link

SIZE = (4, 12)
Bool = NDArray[np.bool_]


def bar(left: int, right: int) -> Bool:
    """Columns ``left`` to ``right``, full height."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, left:right] = True
    return mask


def found(*masks: Bool, scores: Any = None, **more: Any) -> Instances:
    boxes = np.array([[0, 0, SIZE[1], SIZE[0]]] * len(masks), dtype=np.float32).reshape(-1, 4)
    stack = np.array(masks, dtype=bool).reshape(-1, *SIZE)
    return Instances(stack, scores or [0.5] * len(masks), boxes, SIZE, **more)


def linked(frames: list[Instances | None], **settings: Any) -> Tracks:
    return link(frames, [f"{t:05d}" for t in range(len(frames))], SIZE, **settings)


def shown(tracks: Tracks) -> list[list[int]]:
    """The frames of every track."""
    return [np.flatnonzero(row).tolist() for row in tracks.present()]


def iou(one: Bool, other: Bool) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def link_slowly(frames: list[Instances | None], min_iou: float, max_gap: int) -> list[dict[int, tuple[Bool, float]]]:
    """All assignments of every frame are tried; the masks of each track by frame, with scores."""
    tracks: list[tuple[str, dict[int, tuple[Bool, float]]]] = []
    for t, instances in enumerate(frames):
        if instances is None:
            continue
        new = [
            (np.asarray(instances.masks[i]), float(instances.scores[i]), instances.names[instances.labels[i]])
            for i in range(len(instances))
            if np.asarray(instances.masks[i]).any()
        ]
        active = [k for k, (_, seen) in enumerate(tracks) if t - max(seen) <= max_gap + 1]
        best: list[tuple[float, frozenset[tuple[int, int]]]] = []
        # Each new mask goes to one of the tracks, or to one of as many places that start a track.
        for chosen in itertools.permutations([*active, *[-1] * len(new)], len(new)):
            pairs, total = set(), 0.0
            for i, k in enumerate(chosen):
                if k < 0:
                    continue
                name, seen = tracks[k]
                overlap = iou(seen[max(seen)][0], new[i][0])
                if overlap >= min_iou and name == new[i][2]:
                    pairs.add((k, i))
                    total += overlap
            best.append((total, frozenset(pairs)))
        highest = max((total for total, _ in best), default=0.0)
        optima = {pairs for total, pairs in best if total > highest - 1e-9}
        optima = {pairs for pairs in optima if not any(pairs < other for other in optima)}
        assume(len(optima) <= 1)
        links = {i: k for k, i in next(iter(optima), frozenset())}
        for i in sorted(range(len(new)), key=lambda i: (-new[i][1], i)):
            if i in links:
                tracks[links[i]][1][t] = new[i][:2]
            else:
                tracks.append((new[i][2], {t: new[i][:2]}))
    return [seen for _, seen in tracks]


@st.composite
def clips(draw: st.DrawFn) -> list[Instances | None]:
    """Up to six frames with up to three masks that often overlap, of two classes; some frames cannot be read."""
    frames: list[Instances | None] = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 5)) == 0:
            frames.append(None)
            continue
        masks, count = [], draw(st.integers(0, 3))
        for _ in range(count):
            top, left, height, width = draw(
                st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 3), st.integers(2, 6))
            )
            mask = np.zeros(SIZE, dtype=bool)
            mask[top : top + height, left : left + width] = True
            masks.append(mask)
        scores = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=count, max_size=count))
        labels = draw(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=count, max_size=count))
        instances = found(*masks, scores=scores, labels=np.array(labels, dtype=np.int64), names=("a", "b"))
        if draw(st.booleans()):  # the other storage of masks
            instances = Instances(
                RleMasks(encode_masks(np.asarray(instances.masks)), SIZE),
                instances.scores, instances.boxes, SIZE, instances.labels, instances.names,
            )  # fmt: skip
        frames.append(instances)
    return frames


@settings(deadline=None, max_examples=200)
@given(clips(), st.sampled_from([0.1, 0.3, 0.5, 1.0]), st.integers(0, 2))
def test_linking_equals_trying_all_assignments(frames: list[Instances | None], min_iou: float, max_gap: int) -> None:
    expected = link_slowly(frames, min_iou, max_gap)
    tracks = linked(frames, min_iou=min_iou, max_gap=max_gap)
    assert tracks.track_ids.tolist() == list(range(1, len(expected) + 1))
    for k, seen in enumerate(expected):
        for t, mask in enumerate(tracks.track(k)):
            assert (mask is not None) == (t in seen)
            if mask is not None:
                np.testing.assert_array_equal(mask, seen[t][0])
                assert tracks.frame_scores[k, t] == seen[t][1]
        mean = sum(score for _, score in seen.values()) / len(seen)
        assert tracks.scores[k] == pytest.approx(mean * len(seen) / len(frames), abs=1e-7)


@pytest.mark.parametrize("max_gap", [0, 1, 5])
@pytest.mark.parametrize("missing", [None, found()])
def test_a_track_continues_after_a_gap_of_max_gap_and_not_after_one_more(max_gap: int, missing: Instances | None) -> None:
    one = found(bar(2, 6))
    tracks = linked([one, *[missing] * max_gap, one], max_gap=max_gap)
    assert shown(tracks) == [[0, max_gap + 1]]
    tracks = linked([one, *[missing] * (max_gap + 1), one], max_gap=max_gap)
    assert shown(tracks) == [[0], [max_gap + 2]]


def test_the_gap_is_five_frames_and_the_iou_three_tenths_unless_said_otherwise() -> None:
    one = found(bar(0, 4))
    assert shown(linked([one, *[None] * 5, one])) == [[0, 6]]
    assert shown(linked([one, *[None] * 6, one])) == [[0], [7]]
    # 3 of 10 columns in common, exactly the limit; 2 of 10 are too few.
    assert shown(linked([found(bar(0, 6)), found(bar(3, 10))])) == [[0, 1]]
    assert iou(bar(0, 6), bar(3, 10)) == 0.3
    assert shown(linked([found(bar(0, 6)), found(bar(4, 10))])) == [[0], [1]]


def test_the_last_seen_mask_counts_and_not_the_first() -> None:
    steps = [found(bar(left, left + 4)) for left in range(0, 9, 2)]
    assert shown(linked(steps)) == [[0, 1, 2, 3, 4]]
    assert shown(linked([steps[0], steps[4]])) == [[0], [1]]


def test_crossing_objects_keep_their_ids() -> None:
    # A tall and a low object pass each other, one column a frame, and overlap by half where they meet.
    tall = [bar(t, t + 4) for t in range(9)]
    low = [bar(8 - t, 12 - t) & (np.arange(4)[:, None] < 2) for t in range(9)]
    frames = [found(low[t], tall[t]) if t % 2 else found(tall[t], low[t]) for t in range(9)]
    tracks = linked(frames)
    assert shown(tracks) == [list(range(9))] * 2
    for k, path in enumerate((tall, low)):
        np.testing.assert_array_equal(np.array(tracks.track(k)), path)


def test_the_best_pair_gives_way_to_a_larger_sum() -> None:
    a, b, c, d = bar(0, 8), bar(4, 12), bar(1, 9), bar(0, 3)
    assert (iou(a, c), iou(b, c), iou(a, d), iou(b, d)) == (7 / 9, 5 / 11, 3 / 8, 0)
    tracks = linked([found(a, b), found(c, d)])
    np.testing.assert_array_equal(tracks.track(0)[1], d)
    np.testing.assert_array_equal(tracks.track(1)[1], c)


def test_ids_follow_the_order_of_appearance_and_within_a_frame_the_scores() -> None:
    first = found(bar(0, 2), bar(3, 5), bar(6, 8), scores=[0.25, 0.75, 0.25])
    second = found(bar(9, 12), bar(0, 2), scores=[1.0, 0.5])
    tracks = linked([first, second])
    starts = [next(int(np.flatnonzero(m.any(axis=0))[0]) for m in tracks.track(k) if m is not None) for k in range(4)]
    assert starts == [3, 0, 6, 9]
    assert tracks.track_ids.tolist() == [1, 2, 3, 4]


def test_a_tracks_score_is_the_mean_of_its_masks_times_the_fraction_of_frames() -> None:
    frames = [found(bar(0, 4), scores=[0.5]), None, found(bar(0, 4), scores=[0.75]), found()]
    tracks = linked(frames)
    assert tracks.scores.tolist() == [0.625 * 2 / 4]
    np.testing.assert_array_equal(tracks.frame_scores, np.array([[0.5, np.nan, 0.75, np.nan]], dtype=np.float32))


def test_only_objects_of_one_class_name_are_linked_and_names_may_be_numbered_anew() -> None:
    cat, dog = ({"labels": [i], "names": ("cat", "dog")} for i in (0, 1))
    tracks = linked([found(bar(0, 4), **cat), found(bar(0, 4), **dog), found(bar(0, 4), labels=[0], names=("dog",))])
    assert shown(tracks) == [[0], [1, 2]]
    assert [tracks.names[label] for label in tracks.labels] == ["cat", "dog"]
    # Another class in between does not take the place of a pair that may be linked.
    both = found(bar(0, 4), bar(0, 3), labels=[1, 0], names=("cat", "dog"))
    assert shown(linked([found(bar(0, 4), **cat), both]))[0] == [0, 1]


def test_masks_that_only_touch_or_are_empty_are_not_linked() -> None:
    assert shown(linked([found(bar(0, 4)), found(bar(4, 8))], min_iou=1e-9)) == [[0], [1]]
    tracks = linked([found(bar(0, 0), bar(0, 4)), found(bar(0, 0))])
    assert (shown(tracks), tracks.scores.tolist()) == ([[0]], [0.25])


def test_a_clip_without_objects_has_a_reason() -> None:
    nothing = linked(
        [None, Instances.empty(SIZE, "one color"), found(bar(0, 0))], frame_rate=25.0, unreadable={"00000": "x"}
    )
    assert (len(nothing), nothing.frame_rate) == (0, 25.0)
    assert nothing.metadata == {"reason": "no object in any of the 3 frames: one color", "unreadable": {"00000": "x"}}
    assert linked([None, None]).reason == "none of the 2 frames can be read"
    assert linked([]).reason == "the clip has no frames"


def test_metadata_and_frame_rate_go_to_the_tracks_and_extras_do_not() -> None:
    tracks = linked([found(bar(0, 4), extras={"gap": [1.0]})], frame_rate=24.0, unreadable={})
    assert (tracks.frame_rate, tracks.metadata, tracks.extras) == (24.0, {"unreadable": {}}, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_iou": 0}, "min_iou must be a number above 0 and at most 1, got 0"),
        ({"min_iou": 1.1}, "min_iou must be a number above 0 and at most 1, got 1.1"),
        ({"min_iou": float("nan")}, "min_iou must be a number above 0 and at most 1, got nan"),
        ({"min_iou": "0.3"}, "min_iou must be a number above 0 and at most 1, got '0.3'"),
        ({"max_gap": -1}, "max_gap must be an integer of at least 0, got -1"),
        ({"max_gap": 2.5}, "max_gap must be an integer of at least 0, got 2.5"),
    ],
)
def test_arguments_out_of_range_are_rejected_at_construction(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Linker(**settings)


def test_frames_of_another_size_or_number_are_rejected() -> None:
    linker = Linker()
    linker.add(found(bar(0, 4)))
    with pytest.raises(ValueError, match=r"all frames of a clip must have one size: \[4, 12\] before, \[3, 4\] now"):
        linker.add(Instances.empty((3, 4), "nothing"))
    with pytest.raises(ValueError, match="frame_names has 2 names for 1 frames"):
        linker.tracks(["0", "1"], SIZE)
    with pytest.raises(ValueError, match="must have one size"):
        linker.tracks(["0"], (12, 4))


def test_tracks_may_be_taken_before_the_clip_ends() -> None:
    linker, one = Linker(), found(bar(0, 4), scores=[1.0])
    linker.add(one)
    assert linker.tracks(["0"], SIZE).scores.tolist() == [1.0]
    linker.add(None)
    assert linker.tracks(["0", "1"], SIZE).scores.tolist() == [0.5]
    linker.add(one)
    assert shown(linker.tracks(["0", "1", "2"], SIZE)) == [[0, 2]]
