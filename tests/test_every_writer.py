"""What every writer of files promises: a new one gets these tests by a line in a table below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import printed
from numpy.typing import NDArray
from toy_clips import disc_frames
from toy_results import EMPTY, PHOTOS, predict
from toy_tracks import draw_tracks

from eigenseg.data import Clip, Geometry, Instances, Tracks
from eigenseg.data.clips import UnreadableFrame
from eigenseg.data.results.arrays import ArrayWriter
from eigenseg.data.results.base import Writer
from eigenseg.data.results.clip_writers import ClipLabelWriter, ClipMaskWriter, ClipOverlayWriter, ClipSaliencyWriter
from eigenseg.data.results.records import Outline, Record, decode_json
from eigenseg.data.results.writers import LabelWriter, MaskWriter, OverlayWriter, SaliencyWriter

WRITERS: dict[str, Callable[[], Writer]] = {
    "labels": LabelWriter,
    "overlays": OverlayWriter,
    "overlays_heatmap": lambda: OverlayWriter(heatmap=True),
    "masks": MaskWriter,
    "saliency": SaliencyWriter,
    "saliency_soft": lambda: SaliencyWriter(soft_only=True),
    "arrays": ArrayWriter,
    "outlines": printed("writer", "OutlineWriter"),
    "clip_labels": ClipLabelWriter,
    "clip_overlays": ClipOverlayWriter,
    "clip_masks": ClipMaskWriter,
    "clip_saliency": ClipSaliencyWriter,
    "clip_arrays": lambda: ArrayWriter("clip"),
}
every_writer = pytest.mark.parametrize("name", WRITERS)


def images() -> list[tuple[Record, Any]]:
    """Fresh records and their images: with arrays, without an object, without arrays, and with more than 255 objects."""
    found = {name: predict(name) for name in PHOTOS}
    found["hard.png"] = Instances(found["rex.jpg"].masks, [0.5, 0.25], found["rex.jpg"].boxes, (24, 32))
    many = np.eye(24 * 32, dtype=bool)[:260].reshape(-1, 24, 32)
    found["many/of them.png"] = Instances(many, np.linspace(0, 1, 260), np.zeros((260, 4)), (24, 32))
    assert not len(found[EMPTY])
    pixels = {name: np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8) for i, name in enumerate(found)}
    return [(Record.of(name, [3, 4], instances), pixels[name]) for name, instances in found.items()]


def clips() -> list[tuple[Record, Any]]:
    """Fresh records and their clips: with arrays, of one frame, with an unreadable frame, without tracks."""
    rows = [["##.. ##.. ....", "#... #... ....", "", ".... #... ...#"], [".#.. .#.. ....", "", "", ".... ..## ...."]]
    geometry = Geometry((3, 4), (3, 4), (4, 4), 4)
    found: dict[str, tuple[Tracks, int | None]] = {
        "walk": (
            draw_tracks(
                rows,
                scores=[0.5, 0.75],
                track_ids=[7, 3],
                extras={"map": np.random.default_rng(0).random((2, 5, 6)).astype(np.float16)},
                metadata={"geometry": geometry},
            ),
            None,
        ),
        "one/frame": (draw_tracks([["#... .... ...."]], frame_rate=12.5), None),
        "damaged.mp4": (draw_tracks(rows, metadata={"unreadable": {"00002": "frame 00002 cannot be read"}}), 2),
        "empty": (Tracks.empty(("a", "b"), (3, 4), "no object: there is none"), None),
    }
    return [(Record.of(name, [1, 2], tracks), clip_of(name, tracks, broken)) for name, (tracks, broken) in found.items()]


def clip_of(name: str, tracks: Tracks, broken: int | None) -> Clip:
    frames = disc_frames(len(tracks.frame_names))[:, 20:23, 40:44]

    def read(t: int) -> NDArray[np.uint8]:
        if t == broken:
            raise UnreadableFrame(f"frame {t:05d} cannot be read")
        return frames[t]

    return Clip(name, tracks.frame_names, tracks.image_size, tracks.frame_rate, read)


def results(writer: Writer) -> list[tuple[Record, Any]]:
    """Records of the writer's kind, and what they are of."""
    return images() if writer.kind == "image" else clips()


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def written(writer: Writer, root: Path, record: Record, pixels: Any) -> dict[str, bytes]:
    writer.write(root, record, pixels)
    return files(root)


@every_writer
def test_nothing_but_its_paths_is_written_and_all_of_them(name: str, tmp_path: Path) -> None:
    writer = WRITERS[name]()
    assert any(writer.paths(record) for record, _ in results(writer))
    for i, (record, pixels) in enumerate(results(writer)):
        paths = writer.paths(record)
        assert len(set(paths)) == len(paths)
        assert set(written(writer, tmp_path / f"{i}", record, pixels)) == set(paths)
        assert all(path.startswith(f"{writer.name}/{record.name}") for path in paths)


@every_writer
def test_all_records_can_be_written_into_one_folder(name: str, tmp_path: Path) -> None:
    writer, expected = WRITERS[name](), {}
    for i, (record, pixels) in enumerate(results(writer)):
        writer.write(tmp_path / "all", record, pixels)
        expected |= written(writer, tmp_path / f"{i}", record, pixels)
    assert files(tmp_path / "all") == expected
    assert len(expected) == sum(len(writer.paths(record)) for record, _ in results(writer))


@every_writer
def test_writing_again_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    for i, (record, pixels) in enumerate(results(WRITERS[name]())):
        first = written(WRITERS[name](), tmp_path / f"{i}", record, pixels)
        assert written(WRITERS[name](), tmp_path / f"{i}", record, pixels) == first
    for i, (record, pixels) in enumerate(results(WRITERS[name]())):
        assert written(WRITERS[name](), tmp_path / f"again {i}", record, pixels) == files(tmp_path / f"{i}")


@every_writer
def test_the_image_or_clip_is_needed_only_where_the_writer_says_so(name: str, tmp_path: Path) -> None:
    writer = WRITERS[name]()
    for i, (record, pixels) in enumerate(results(writer)):
        if writer.needs_pixels:
            with pytest.raises(ValueError, match=f"{record.name}: this writer needs the {record.kind} itself"):
                writer.write(tmp_path / f"{i}", record, None)
            assert not (tmp_path / f"{i}").exists()
        else:
            without = written(writer, tmp_path / f"{i}", record, None)
            assert without == written(writer, tmp_path / f"with {i}", record, pixels)


@every_writer
def test_a_record_that_was_read_gives_the_same_bytes_as_a_fresh_one(name: str, tmp_path: Path) -> None:
    writer = WRITERS[name]()
    for i, (record, pixels) in enumerate(results(writer)):
        read = Record.from_line(record.to_line())
        assert writer.paths(read) == writer.paths(record)
        needed = writer.needs_arrays(read)
        assert needed == writer.needs_arrays(record)
        with_arrays = read.with_arrays({key: record.arrays[key] for key in needed})
        again = written(writer, tmp_path / f"read {i}", with_arrays, pixels)
        assert again == written(writer, tmp_path / f"{i}", record, pixels)


@pytest.mark.parametrize("name", [name for name, make in WRITERS.items() if make().kind == "image"])
def test_paths_of_an_image_follow_from_the_outline_of_its_record_unless_the_writer_says_otherwise(name: str) -> None:
    writer = WRITERS[name]()
    for record, _ in results(writer):
        outline = Record.from_outline(decode_json(record.to_line(), Outline))
        if not getattr(writer, "needs_content", False):
            assert writer.paths(outline) == writer.paths(record)


@every_writer
def test_settings_are_json_values_and_tell_writers_of_one_name_apart(name: str) -> None:
    writer = WRITERS[name]()
    twins = [WRITERS[other]() for other in WRITERS if other != name]
    same = [twin for twin in twins if (twin.name, twin.kind, type(twin)) == (writer.name, writer.kind, type(writer))]
    assert all(dict(twin.settings) != dict(writer.settings) for twin in same)
    assert all(type(value) in (bool, int, float, str) for value in writer.settings.values())
