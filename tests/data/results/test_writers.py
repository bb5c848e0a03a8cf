"""What is written shows the result: label maps, masks, maps, arrays and visualizations of images and clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_results import make_photos, predict
from toy_tracks import draw_tracks

from eigenseg.data import Clip, ImageSource, Instances, Tracks, encode_masks, open_clip, read_image
from eigenseg.data.clips import UnreadableFrame
from eigenseg.data.palette import DAVIS_PALETTE
from eigenseg.data.results.base import Writer
from eigenseg.data.results.clip_overlay import draw_frame
from eigenseg.data.results.clip_writers import clip_writers
from eigenseg.data.results.overlay import draw_heatmap, draw_overlay
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import SaliencyWriter, image_writers

ALL = {"labels": True, "overlays": True, "masks": True, "saliency": True, "arrays": True}
NONE = dict.fromkeys(ALL, False)
# Two tracks with the ids 7 and 3; the second has the higher score and is absent in the last frame.
TRACKS = draw_tracks(
    [["##.. ##.. ....", "#... #... ....", ".... #... ...#"], [".#.. .#.. ....", ".... ..## ....", ""]],
    scores=[0.5, 0.75],
    track_ids=[7, 3],
)
UNREADABLE = "frame 00001 cannot be decoded"


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    return make_photos(tmp_path / "photos")


def write(root: Path, record: Record, writers: list[Writer], pixels: Any = None) -> set[str]:
    for writer in writers:
        writer.write(root, record, pixels)
    written = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert written == {path for writer in writers for path in writer.paths(record)}
    return written


def gray(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("count", "mode"), [(255, "L"), (256, "I;16"), (300, "I;16")])
def test_label_images_hold_every_number_and_use_16_bits_only_above_255(count: int, mode: str, tmp_path: Path) -> None:
    masks = np.eye(24 * 32, dtype=bool)[:count].reshape(-1, 24, 32)
    instances = Instances(masks, np.ones(count), np.zeros((count, 4)), (24, 32))
    write(tmp_path, Record.of("a.jpg", None, instances), image_writers(**{**NONE, "labels": True}))
    with Image.open(tmp_path / "labels" / "a.jpg.png") as image:
        assert image.mode == mode
        labels = np.asarray(image)
    np.testing.assert_array_equal(labels.ravel(), [*range(1, count + 1), *[0] * (24 * 32 - count)])


def test_written_images_show_the_instances(tmp_path: Path, sources: list[ImageSource]) -> None:
    for source in sources:
        root, instances, image = tmp_path / source.name, predict(source.name), read_image(source.path)
        write(root, Record.of(source.name, None, instances), image_writers(**ALL, heatmap=True), image)
        np.testing.assert_array_equal(gray(root / "labels" / f"{source.name}.png"), instances.label_map())
        np.testing.assert_array_equal(gray(root / "saliency" / f"{source.name}.png"), instances.saliency_map())
        for i, mask in enumerate(np.asarray(instances.masks)):
            single = gray(root / "masks" / source.name / f"{i:03d}.png")
            np.testing.assert_array_equal(single, np.where(mask, 255, 0).astype(np.uint8), strict=True)
        overlay = read_image(root / "overlays" / f"{source.name}.jpg").astype(float)
        expected = np.concatenate([draw_overlay(image, instances), draw_heatmap(image, instances)], axis=1)
        assert overlay.shape == expected.shape
        halves = [np.corrcoef(overlay[:, h].ravel(), expected[:, h].ravel())[0, 1] for h in (slice(32), slice(32, 64))]
        assert min(halves) > 0.8


def test_a_saliency_map_without_a_soft_one_shows_all_masks(tmp_path: Path) -> None:
    instances = Instances.empty((6, 8), "nothing", saliency=np.full((6, 8), 0.5, dtype=np.float32))
    write(tmp_path / "soft", Record.of("a.png", None, instances), [SaliencyWriter()])
    assert (gray(tmp_path / "soft" / "saliency" / "a.png.png") == 127).all()
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 0, 0] = masks[1, 5, 7] = True
    write(
        tmp_path / "hard", Record.of("a.png", None, Instances(masks, [1, 1], np.zeros((2, 4)), (6, 8))), [SaliencyWriter()]
    )
    np.testing.assert_array_equal(gray(tmp_path / "hard" / "saliency" / "a.png.png"), masks.any(axis=0) * 255)


def test_arrays_are_read_by_numpy_alone_and_equal_ones_give_equal_bytes(tmp_path: Path) -> None:
    record, again = (Record.of("b/rex.jpg", None, predict("b/rex.jpg")) for _ in range(2))
    for root, one in ((tmp_path / "1", record), (tmp_path / "2", again)):
        write(root, one, image_writers(**{**NONE, "arrays": True}))
    paths = [tmp_path / name / "arrays" / "b" / "rex.jpg.npz" for name in "12"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with np.load(paths[0], allow_pickle=False) as content:
        read = dict(content)
    original = predict("b/rex.jpg")
    assert list(read) == ["extras.eigenvector.0", "extras.eigenvector.1", "metadata.saliency"]
    for i in range(2):
        np.testing.assert_array_equal(read[f"extras.eigenvector.{i}"], original.extras["eigenvector"][i], strict=True)
    np.testing.assert_array_equal(read["metadata.saliency"], original.metadata["saliency"], strict=True)


def test_a_record_without_arrays_has_a_file_that_says_so(tmp_path: Path) -> None:
    write(tmp_path, Record.of("a", None, Instances.empty((2, 3), "none")), image_writers(**{**NONE, "arrays": True}))
    with np.load(tmp_path / "arrays" / "a.npz") as content:
        assert dict(content) == {}


def test_writers_say_which_arrays_they_need() -> None:
    read = Record.from_line(Record.of("a", None, predict("a")).to_line())
    needed = {writer.name: writer.needs_arrays(read) for writer in image_writers(**ALL, heatmap=True)}
    assert needed == {
        "labels": (),
        "masks": (),
        "saliency": ("metadata.saliency",),
        "arrays": ("extras.eigenvector.0", "extras.eigenvector.1", "metadata.saliency"),
        "overlays": ("extras.eigenvector.0",),
    }
    assert [writer.needs_arrays(read) for writer in image_writers()] == [(), ()]
    assert [writer.name for writer in image_writers(**ALL) if writer.needs_pixels] == ["overlays"]


def clip_of(tracks: Tracks, broken: tuple[int, ...] = ()) -> Clip:
    """Frames of one color each, bright enough to see which is which; some of them unreadable."""

    def read(t: int) -> np.ndarray:
        if t in broken:
            raise UnreadableFrame(UNREADABLE)
        return np.full((*tracks.image_size, 3), 40 * (t + 1), dtype=np.uint8)

    return Clip("clip", tracks.frame_names, tracks.image_size, None, read)


def test_clips_have_a_label_map_for_every_frame_in_the_colors_of_davis(tmp_path: Path) -> None:
    tracks = Tracks(**{**vars(TRACKS), "metadata": {"unreadable": {"00002": UNREADABLE}}})
    write(tmp_path, Record.of("a/bear", None, tracks), clip_writers(**{**NONE, "labels": True}))
    expected = [
        [[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]],
        [[1, 0, 0, 0], [1, 0, 2, 2], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]],
    ]
    for t, labels in enumerate(expected):
        with Image.open(tmp_path / "labels" / "a" / "bear" / f"{t:05d}.png") as image:
            assert image.mode == "P"
            assert np.array_equal(np.reshape(image.getpalette(), (-1, 3))[:3], DAVIS_PALETTE[:3])
            np.testing.assert_array_equal(np.asarray(image), labels)


def test_an_unreadable_frame_has_empty_maps(tmp_path: Path) -> None:
    rows = [["#. ..", "", "#. .."]]
    tracks = draw_tracks(rows, metadata={"unreadable": {"00001": UNREADABLE}})
    write(tmp_path, Record.of("clip", None, tracks), clip_writers(**{**NONE, "labels": True, "saliency": True}))
    for folder, value in (("labels", 1), ("saliency", 255)):
        maps = [gray(tmp_path / folder / "clip" / f"{t:05d}.png")[0, 0] for t in range(3)]
        assert maps == [value, 0, value]


def test_more_than_255_tracks_become_16_bit_label_maps(tmp_path: Path) -> None:
    count = 300
    masks = np.eye(20 * 20, dtype=bool)[:count].reshape(-1, 20, 20)
    tracks = Tracks([(rle,) for rle in encode_masks(masks)], np.ones(count), range(1, count + 1), ("0",), (20, 20))  # type: ignore[arg-type]
    write(tmp_path, Record.of("clip", None, tracks), clip_writers(**{**NONE, "labels": True}))
    np.testing.assert_array_equal(gray(tmp_path / "labels" / "clip" / "0.png").ravel()[:count], np.arange(1, count + 1))


def test_masks_of_clips_lie_by_track_id_where_the_track_is_present(tmp_path: Path) -> None:
    written = write(tmp_path, Record.of("clip", None, TRACKS), clip_writers(**{**NONE, "masks": True}))
    shown = {(7, 0), (7, 1), (7, 2), (3, 0), (3, 1)}
    assert written == {f"masks/clip/{track}/{t:05d}.png" for track, t in shown}
    for track, t in shown:
        mask = TRACKS.track([7, 3].index(track))[t]
        assert mask is not None
        np.testing.assert_array_equal(gray(tmp_path / f"masks/clip/{track}/{t:05d}.png"), mask * np.uint8(255), strict=True)


def test_the_overlay_of_a_clip_repeats_the_frame_before_an_unreadable_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 48, 64), bool)
    for t in range(6):
        masks[t, 10:30, 5 + 5 * t : 25 + 5 * t] = True
    masks_rle = [*encode_masks(masks)]
    tracks = Tracks(([None, *masks_rle[1:3], None, *masks_rle[4:]],), [0.5], [1], tuple("012345"), (48, 64))  # type: ignore[arg-type]
    colors = rng.integers(60, 200, (6, 3))
    frames = [np.full((48, 64, 3), color, dtype=np.uint8) for color in colors]

    def read(t: int) -> np.ndarray:
        if t in (0, 3):
            raise UnreadableFrame(UNREADABLE)
        return frames[t]

    clip = Clip("clip", tracks.frame_names, (48, 64), 12.5, read)
    write(tmp_path, Record.of("clip", None, tracks), clip_writers(**{**NONE, "overlays": True}), clip)
    video = open_clip(tmp_path / "overlays" / "clip.mp4")
    assert (len(video), video.frame_rate, video.image_size) == (6, 12.5, (48, 64))
    drawn = [np.zeros((48, 64, 3)), *(draw_frame(frames[t], tracks, t) for t in (1, 2, 2, 4, 5))]
    for shown, expected in zip(video.frames(), drawn, strict=True):
        assert np.abs(shown.astype(float) - expected).mean() < 6  # H.264 at a small size
    assert read_image(tmp_path / "overlays" / "clip.jpg").shape[0] >= 48


def test_a_store_of_clips_holds_fills_and_removes_their_files(tmp_path: Path) -> None:
    class Source:
        name = "a/bear"

        def stamp(self) -> list[int]:
            return [3, 100, 7]

    root, clip = tmp_path / "out", clip_of(TRACKS)
    store = ResultStore(root, {}, clip_writers(**{**NONE, "labels": True}))
    store.add(Record.of("a/bear", [3, 100, 7], TRACKS), clip)
    store = ResultStore(root, {}, clip_writers(**ALL))
    assert not store.holds(Source())
    assert store.unwritten(Source())
    assert store.needs_pixels(Source())
    store.fill(Source(), clip)
    assert store.holds(Source())
    record = store.record("a/bear")
    assert record is not None
    assert record.tracks().equals(TRACKS)
    content = json.loads(store.finish([Source()]).read_text())
    assert [video["name"] for video in content["videos"]] == ["a/bear"]
    assert [annotation["track_id"] for annotation in content["annotations"]] == [7, 3]
    broken = Tracks.empty(TRACKS.frame_names, (3, 4), "none", unreadable={"00001": UNREADABLE})
    store.add(Record.of("a/bear", [3, 100, 7], broken), clip_of(TRACKS, broken=(1,)))
    assert [record.unreadable for record in store.incomplete([Source()])] == [{"00001": UNREADABLE}]
    assert not list((root / "masks").rglob("*.png"))
    store.fail(Record.failure("a/bear", "clip", None, "it is truncated"))
    store.finish([Source()])
    assert {path.name for path in root.iterdir()} == {"run.json", "manifest.jsonl", "tracks.json"}


def test_an_empty_run_still_assembles_its_file(tmp_path: Path) -> None:
    assert json.loads(ResultStore(tmp_path / "clips", {}, kind="clip").finish([]).read_text())["videos"] == []
    assert json.loads(ResultStore(tmp_path / "images", {}).finish([]).read_text())["images"] == []
