"""Tracks reject inconsistent fields, agree with slow readers frame by frame, and come back from json exactly."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools import mask as reference
from toy_tracks import any_tracks, decode_slowly, draw_tracks, to_mask, to_rle

from eigenseg.data import Tracks, encode_masks

# pycocotools' own result type does not know NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

LEFT, RIGHT, ALL = "##.. ##..", "..## ..##", "#### ####"
TWO = draw_tracks([[LEFT, "", ALL], ["", "", RIGHT]], [0.5, 0.75], track_ids=[7, 3], labels=[1, 0], names=("cat", "dog"))


def second(frame: str) -> Any:
    """Masks of two tracks, the second one in the last frame alone."""
    return TWO.masks[0], (None, None, to_rle(frame))


WHOLE = {field.name: getattr(TWO, field.name) for field in fields(TWO)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": (TWO.masks[0], TWO.masks[1][:2])}, r"masks\[1\] has 2 entries for 3 frames"),
        ({"masks": (TWO.masks[0], (None, None, None))}, r"masks\[1\] is None in every frame"),
        ({"masks": second("..## ..## ....")}, r"masks\[1\]\[2\] has size \[3, 4\], the clip \[2, 4\]"),
        ({"masks": second(".... ....")}, r"masks\[1\]\[2\] is empty; where a track is absent"),
        ({"masks": (TWO.masks[0], (None, None, {"size": [2, 4], "counts": "abc"}))}, r"masks\[1\]\[2\] is a damaged RLE"),
        ({"frame_names": ("a", "b", "a")}, "frame_names must be unique, got 'a' twice"),
        ({"frame_names": ("a", "b", 3)}, "frame_names must be strings, got 3"),
        ({"frame_names": ("a", "b")}, r"masks\[0\] has 3 entries for 2 frames"),
        ({"scores": [0.5]}, r"scores must be \(2,\) for 2 tracks, got \(1,\)"),
        ({"scores": [0.5, 1.5]}, r"scores must lie in \[0, 1\], got \[0\.5, 1\.5\]"),
        ({"scores": [0.5, np.nan]}, r"scores must lie in \[0, 1\], got \[0\.5, nan\]"),
        ({"track_ids": [1]}, r"track_ids must be \(2,\) for 2 tracks"),
        ({"track_ids": [0, 1]}, r"track_ids must be positive and unique, got \[0, 1\]"),
        ({"track_ids": [2, 2]}, r"track_ids must be positive and unique, got \[2, 2\]"),
        ({"track_ids": [1.5, 2]}, "track_ids must be integers, got float64"),
        ({"labels": [0, 2]}, r"labels must index the 2 names, got \[0, 2\]"),
        ({"labels": [0, -1]}, r"labels must index the 2 names, got \[0, -1\]"),
        ({"names": ()}, "names must hold at least one name"),
        ({"frame_scores": np.zeros((2, 2))}, r"frame_scores must be \(K, T\) = \(2, 3\), got \(2, 2\)"),
        ({"frame_scores": [[1, 0, 1], [np.nan, np.nan, 1]]}, r"NaN where it is absent, got 0\.0 for track 0 in frame 1"),
        ({"frame_scores": [[1, np.nan, np.nan], [np.nan, np.nan, 1]]}, "got nan for track 0 in frame 2"),
        ({"frame_scores": [[1, np.nan, 1], [np.nan, np.nan, 1.5]]}, r"got 1\.5 for track 1 in frame 2"),
        ({"frame_rate": 0}, "frame_rate must be a positive number of frames per second, or None if unknown, got 0"),
        ({"frame_rate": np.inf}, "frame_rate must be a positive number"),
        ({"extras": {"seed": [1]}}, r"extras\['seed'\] has 1 entries for 2 tracks"),
    ],
)  # fmt: skip
def test_inconsistent_fields_are_rejected_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tracks(**{**WHOLE, **changes})


@pytest.mark.parametrize("mask", [np.ones((2, 4), bool), {"size": [2, 4], "counts": b"8"}, {"counts": "8"}, "8"])
def test_masks_that_are_no_encodings_are_rejected(mask: Any) -> None:
    with pytest.raises(TypeError, match=r"masks\[0\]\[0\] must be an RLE \(size, and counts as text\) or None"):
        Tracks(((mask,),), [1.0], [1], ("0",), (2, 4))


def test_fields_that_are_not_given_are_filled_in() -> None:
    tracks = draw_tracks([[LEFT, ""], [ALL, RIGHT]], [0.25, 1])
    assert (tracks.labels.tolist(), tracks.names, tracks.frame_rate) == ([0, 0], ("fg",), None)
    np.testing.assert_array_equal(tracks.frame_scores, np.array([[0.25, np.nan], [1, 1]], np.float32), strict=True)
    assert (tracks.scores.dtype, tracks.track_ids.dtype, tracks.labels.dtype) == (np.float32, np.int64, np.int64)


@settings(deadline=None)
@given(any_tracks())
def test_a_frame_holds_the_present_tracks_with_their_pixels_boxes_and_scores(tracks: Tracks) -> None:
    for t, instances in enumerate(tracks.frames()):
        shown = [k for k in range(len(tracks)) if tracks.masks[k][t] is not None]
        assert list(instances.extras["track_id"]) == tracks.track_ids[shown].tolist()
        assert instances.scores.tolist() == tracks.frame_scores[shown, t].tolist()
        assert instances.labels.tolist() == tracks.labels[shown].tolist()
        assert (instances.names, instances.image_size) == (tracks.names, tracks.image_size)
        assert (instances.reason is None) == bool(shown)
        for mask, box, k in zip(instances.masks, instances.boxes.tolist(), shown, strict=True):
            expected = decode_slowly(tracks.masks[k][t])  # type: ignore[arg-type]
            np.testing.assert_array_equal(mask, expected)
            np.testing.assert_array_equal(tracks.track(k)[t], expected)
            ys, xs = np.nonzero(expected)
            assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    with pytest.raises(IndexError):
        tracks.frame(len(tracks.frame_names))
    assert tracks.frame(-1).equals(tracks.frame(len(tracks.frame_names) - 1))


@settings(deadline=None)
@given(any_tracks())
def test_a_label_map_shows_the_highest_track_score_and_the_first_of_equals(tracks: Tracks) -> None:
    for t, labels in enumerate(tracks.label_maps()):
        expected, ids = np.zeros(tracks.image_size, dtype=np.int32), np.zeros(tracks.image_size, dtype=np.int32)
        for y, x in np.ndindex(*tracks.image_size):
            here = [k for k in range(len(tracks)) if (mask := tracks.track(k)[t]) is not None and mask[y, x]]
            if here:
                best = min(here, key=lambda k: (-tracks.scores[k], k))
                expected[y, x], ids[y, x] = best + 1, 10 * best + 5
        np.testing.assert_array_equal(labels, expected, strict=True)
        np.testing.assert_array_equal(tracks.label_map(t, [10 * k + 5 for k in range(len(tracks))]), ids, strict=True)


def test_the_score_of_the_track_and_not_of_the_frame_decides_what_is_on_top() -> None:
    tracks = draw_tracks([[ALL], [RIGHT]], [0.75, 0.5], frame_scores=[[0.1], [0.9]])
    assert tracks.label_map(0).tolist() == [[1, 1, 1, 1]] * 2
    assert draw_tracks([[ALL], [RIGHT]], [0.5, 0.5]).label_map(0).tolist() == [[1, 1, 1, 1]] * 2
    assert draw_tracks([[ALL], [RIGHT]], [0.5, 0.75]).label_map(0).tolist() == [[1, 1, 2, 2]] * 2
    assert TWO.label_map(-1, TWO.track_ids).tolist() == [[7, 7, 3, 3]] * 2
    with pytest.raises(ValueError, match=r"numbers must be \(2,\) for 2 tracks, got \(1,\)"):
        TWO.label_map(0, [1])


def test_an_index_selects_rows_of_all_fields_and_always_returns_tracks() -> None:
    tracks = replace(TWO, extras={"map": np.arange(6).reshape(2, 3)}, metadata={"a": 1}, frame_rate=25)
    for index, row in [(1, 1), (-1, 1), (slice(0, 1), 0), ([0], 0), (tracks.scores > 0.6, 1)]:
        one = tracks[index]
        assert (one.masks, one.scores.tolist()) == ((TWO.masks[row],), [[0.5, 0.75][row]])
        assert (one.track_ids.tolist(), one.labels.tolist()) == ([[7, 3][row]], [[1, 0][row]])
        np.testing.assert_array_equal(one.frame_scores, tracks.frame_scores[[row]])
        np.testing.assert_array_equal(one.extras["map"], [[[0, 1, 2], [3, 4, 5]][row]])
        assert (one.metadata, one.frame_rate, one.frame_names) == ({"a": 1}, 25, tracks.frame_names)
    assert [one.track_ids.tolist() for one in tracks] == [[7], [3]]
    assert tracks[[1, 0]][[1, 0]].equals(tracks)
    with pytest.raises(IndexError):
        tracks[2]


def test_no_tracks_have_a_reason_and_a_frame_says_why_it_is_empty() -> None:
    nothing = Tracks.empty(["a", "b"], (2, 4), "nothing moves", frame_rate=24, unreadable={"b": "b cannot be read"})
    assert (len(nothing), nothing.reason, nothing.frame_rate) == (0, "nothing moves", 24)
    assert [instances.reason for instances in nothing.frames()] == ["nothing moves", "b cannot be read"]
    assert [labels.tolist() for labels in nothing.label_maps()] == [[[0] * 4] * 2] * 2
    assert Tracks.from_ytvis(nothing.to_ytvis()).equals(nothing)
    assert TWO.reason is None
    assert TWO.frame(1).reason == "no track is in this frame"


@settings(deadline=None)
@given(any_tracks())
def test_tracks_come_back_from_json_in_youtube_vis_form_exactly(tracks: Tracks) -> None:
    written = json.dumps(tracks.to_ytvis(video_id=3, first_id=8, name="a/b.mp4"), allow_nan=False)
    read = Tracks.from_ytvis(json.loads(written))
    for name in ("scores", "track_ids", "frame_scores", "labels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(tracks, name), strict=True)
    for name in ("masks", "frame_names", "image_size", "names", "frame_rate"):
        assert getattr(read, name) == getattr(tracks, name)
    assert json.dumps(read.metadata, sort_keys=True) == json.dumps(tracks.metadata, sort_keys=True)
    assert {key: list(values) for key, values in read.extras.items()} == {k: list(v) for k, v in tracks.extras.items()}
    assert read.equals(tracks)


@settings(deadline=None)
@given(any_tracks())
def test_a_file_holds_every_mask_as_pycocotools_and_a_slow_reader_decode_it(tracks: Tracks) -> None:
    content = json.loads(json.dumps(tracks.to_ytvis(3, 8, "bear")))
    video = content["video"]
    assert video["file_names"] == [f"bear/{name}" for name in tracks.frame_names]
    assert ((video["height"], video["width"]), video["length"], video["id"]) == (
        tracks.image_size,
        len(tracks.frame_names),
        3,
    )
    assert [(a["id"], a["video_id"]) for a in content["annotations"]] == [(8 + k, 3) for k in range(len(tracks))]
    for annotation, track, label in zip(
        content["annotations"], map(tracks.track, range(len(tracks))), tracks.labels, strict=True
    ):
        (category,) = [c["name"] for c in content["categories"] if c["id"] == annotation["category_id"]]
        assert category == tracks.names[label]
        columns = (annotation[name] for name in ("segmentations", "bboxes", "areas"))
        for mask, rle, box, area in zip(track, *columns, strict=True):
            if mask is None:
                assert (rle, box, area) == (None, None, None)
                continue
            assert isinstance(rle["counts"], str)
            np.testing.assert_array_equal(reference.decode(rle), mask)
            np.testing.assert_array_equal(decode_slowly(rle), mask)
            ys, xs = np.nonzero(mask)
            assert box == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert area == mask.sum()


def test_json_keeps_what_it_can_hold_and_leaves_out_the_rest() -> None:
    metadata = {"reason": "r", "pair": (1, np.float32(0.5)), "map": np.zeros(2), "gap": float("inf"), "at": {1: 2}}
    read = Tracks.from_ytvis(
        replace(TWO, metadata=metadata, extras={"a": [(1, 2), None], "b": [np.ones(2)] * 2}).to_ytvis()
    )
    assert read.metadata == {"reason": "r", "pair": [1, 0.5]}
    assert read.extras == {"a": [[1, 2], None]}


def foreign() -> dict[str, Any]:
    """A clip as other programs write it: uncompressed runs, polygons, ids from 0, categories with gaps, no scores."""
    runs, empty = {"size": [2, 4], "counts": [2, 4, 2]}, {"size": [2, 4], "counts": [8]}
    return {
        "video": {"id": 0, "file_names": ["x/img_1.jpg", "x/img_2.jpg"], "width": 4, "height": 2, "length": 2},
        "annotations": [
            {"id": 0, "video_id": 0, "category_id": 9, "segmentations": [runs, None], "bboxes": [None, None]},
            {"id": 1, "video_id": 0, "category_id": 4, "segmentations": [None, empty]},
            {"id": 2, "video_id": 0, "category_id": 4, "segmentations": [[[0, 0, 2, 0, 2, 2, 0, 2]], empty]},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
    }  # fmt: skip


def test_clips_of_other_programs_are_read() -> None:
    tracks = Tracks.from_ytvis(foreign())
    assert tracks.frame_names == ("img_1.jpg", "img_2.jpg")
    assert [[None if mask is None else mask.tolist() for mask in tracks.track(k)] for k in range(len(tracks))] == [
        [to_mask(".##. .##.").tolist(), None],
        [to_mask(LEFT).tolist(), None],
    ]
    assert (tracks.names, tracks.labels.tolist(), tracks.scores.tolist()) == (("cat", "dog"), [1, 0], [1, 1])
    assert tracks.track_ids.tolist() == [1, 2]
    content = foreign()
    content["annotations"] = [{**entry, "id": 10 * entry["id"] + 5, "score": 0.25} for entry in content["annotations"]]
    read = Tracks.from_ytvis(content)
    assert (read.track_ids.tolist(), read.scores.tolist()) == ([5, 25], [0.25, 0.25])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("video"), r"this is not a clip in YouTube-VIS form: video is missing"),
        (lambda c: c["video"].pop("height"), "not a clip in YouTube-VIS form"),
        (lambda c: c["annotations"][0].pop("segmentations"), "not a clip in YouTube-VIS form"),
        (lambda c: c["annotations"][0].update(segmentations=3), "not a clip in YouTube-VIS form"),
        (
            lambda c: c["annotations"][0].update(segmentations=[c["annotations"][0]["segmentations"][0]]),
            "has 1 entries for 2",
        ),
        (lambda c: c["annotations"][0].update(category_id=5), "an annotation has category_id 5, which no category has"),
        (lambda c: c["annotations"][0].update(score=7), r"scores must lie in \[0, 1\]"),
        (lambda c: c["annotations"][0].update(frame_scores=[1]), "annotation 0 has 1 frame_scores for 2 frames"),
        (lambda c: c["video"].update(width=5), r"it has size \[2, 4\], the image \[2, 5\]"),
        (lambda c: c["annotations"][0]["segmentations"][0].update(counts="abc"), "a segmentation is neither"),
    ],
)
def test_damaged_clips_are_rejected_in_one_sentence(change: Any, message: str) -> None:
    content = foreign()
    change(content)
    with pytest.raises(ValueError, match=message):
        Tracks.from_ytvis(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.array([0.5, np.nextafter(np.float32(0.75), np.float32(1))])},
        {"track_ids": [7, 4]},
        {"masks": second("..## ..#.")},
        {"masks": ((TWO.masks[0][0], TWO.masks[0][0], TWO.masks[0][2]), TWO.masks[1]), "frame_scores": None},
        {"frame_names": ("00000", "00001", "3")},
        {"frame_scores": [[0.5, np.nan, 0.5], [np.nan, np.nan, 0.25]]},
        {"labels": [0, 0]},
        {"names": ("cat", "cow")},
        {"frame_rate": 25.0},
        {"extras": {"seed": [1, 2]}},
        {"metadata": {"a": 1}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_any_other_value_of_a_field_makes_tracks_unequal(changes: dict[str, Any]) -> None:
    assert TWO.equals(Tracks(**WHOLE))
    assert not TWO.equals(Tracks(**{**WHOLE, **changes}))
    assert not Tracks(**{**WHOLE, **changes}).equals(TWO)
    assert not TWO.equals(TWO[:1])
    assert not TWO.equals("tracks")


def test_one_mask_in_two_encodings_is_equal() -> None:
    canonical = encode_masks(to_mask(LEFT)[None])[0]
    longer: Any = {"size": [2, 4], "counts": "044L"}  # runs of 0, 4, 4 and 0 pixels
    np.testing.assert_array_equal(decode_slowly(longer), to_mask(LEFT))
    assert canonical["counts"] != longer["counts"]
    one, other = (Tracks(((rle,),), [1.0], [1], ("0",), (2, 4)) for rle in (canonical, longer))
    assert one.equals(other)


@settings(deadline=None)
@given(any_tracks())
def test_tracks_are_printed_in_one_line(tracks: Tracks) -> None:
    height, width = tracks.image_size
    frames, why = len(tracks.frame_names), f": {tracks.reason}" if tracks.reason else ""
    assert repr(tracks) == f"Tracks({len(tracks)} tracks in {frames} frames of {height} x {width} (H x W){why})"
    empty = Tracks.empty(["a", "b"], (3, 4), "nothing moves")
    assert repr(empty) == "Tracks(0 tracks in 2 frames of 3 x 4 (H x W): nothing moves)"
