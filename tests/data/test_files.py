"""A file is written whole or not at all: when a step fails the old one stays alone, and the error says why."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenseg.data.files import OutputError, exclusive, make_folder, write_bytes, write_image, write_json

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission to write",
    errno.EIO: "Input/output error",
}


class HalfFull(io.FileIO):
    """A file on a disk that takes half of what is written and is full then."""

    def write(self, content: Any) -> int:
        super().write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def break_step(step: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr({"mkstemp": tempfile}.get(step, os), step, fail)


def entries(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", REASONS)
@pytest.mark.parametrize("step", ["mkstemp", "chmod", "replace"])
def test_when_a_step_fails_the_old_file_is_intact_and_alone(
    step: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_bytes(b"old")
    break_step(step, number, monkeypatch)
    with pytest.raises(
        OutputError, match=f"^cannot write {tmp_path}/result.json: {REASONS[number]}; choose another"
    ) as caught:
        write_bytes(tmp_path / "result.json", b"new")
    assert caught.value.errno == number
    monkeypatch.undo()
    assert entries(tmp_path) == {"result.json": b"old"}


def test_when_the_disk_fills_half_way_the_old_file_is_intact_and_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_bytes(b"old")
    monkeypatch.setattr(os, "fdopen", HalfFull)
    with pytest.raises(OutputError, match=r"result\.json: the disk is full"):
        write_bytes(tmp_path / "result.json", b"a new result")
    monkeypatch.undo()
    assert entries(tmp_path) == {"result.json": b"old"}


def test_an_interruption_leaves_the_old_file_alone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "result.json").write_bytes(b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "result.json", b"new")
    assert entries(tmp_path) == {"result.json": b"old"}


def test_a_file_replaces_the_old_one_in_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "result.json", b"old")
    write_bytes(tmp_path / "a" / "b" / "result.json", b"new")
    assert entries(tmp_path) == {"a/b/result.json": b"new"}


def test_until_the_rename_the_old_content_is_what_a_reader_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, genuine, seen = tmp_path / "result.json", os.replace, []
    path.write_bytes(b"old")

    def look_then_replace(temporary: str, target: Path) -> None:
        seen.append((path.read_bytes(), Path(temporary).read_bytes(), Path(temporary).parent))
        genuine(temporary, target)

    monkeypatch.setattr(os, "replace", look_then_replace)
    write_bytes(path, b"new")
    assert seen == [(b"old", b"new", tmp_path)]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_file_has_the_permissions_that_open_would_give_it(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "ours", b"x")
        (tmp_path / "plain").write_bytes(b"x")
        assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(OutputError, match=f"^cannot create folder {tmp_path}/out: a file of that name is in the way"):
        make_folder(tmp_path / "out")
    with pytest.raises(
        OutputError, match=f"^cannot write {tmp_path}/out/labels: a part of the path is a file, not a folder"
    ):
        write_bytes(tmp_path / "out" / "labels" / "a.png", b"x")
    assert entries(tmp_path) == {"out": b"mine"}


def test_json_comes_back_and_not_a_number_is_refused(tmp_path: Path) -> None:
    content = {"ä": [1, 2.5, None], "b": {"c": "d"}}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == content


@pytest.mark.parametrize(
    "pixels",
    [
        np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8),
        np.random.default_rng(1).integers(0, 256, (5, 7), dtype=np.uint8),
        np.random.default_rng(2).integers(0, 65536, (5, 7), dtype=np.uint16),
    ],
    ids=["rgb", "gray", "sixteen bits"],
)
def test_a_png_comes_back_exactly(pixels: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", pixels)
    write_image(tmp_path / "b.png", np.asfortranarray(pixels))
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels, strict=True)


def test_a_jpeg_keeps_its_colors_and_quality_counts(tmp_path: Path) -> None:
    flat = np.full((32, 32, 3), (200, 40, 90), dtype=np.uint8)
    write_image(tmp_path / "flat.jpg", flat)
    with Image.open(tmp_path / "flat.jpg") as picture:
        assert picture.format == "JPEG"
        assert np.abs(np.asarray(picture).astype(int) - flat).max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sizes = []
    for quality in (20, 60, 95):
        write_image(tmp_path / "noise.jpg", noise, quality)
        sizes.append((tmp_path / "noise.jpg").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_a_picture_that_the_format_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wide\.jpg: a picture of shape \(1, 65536, 3\) cannot be encoded as \.jpg"):
        write_image(tmp_path / "wide.jpg", np.zeros((1, 65536, 3), np.uint8))
    assert entries(tmp_path) == {}


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(OutputError, match=r"another run is writing to .*out; wait for it, or choose another")
    with exclusive(tmp_path / "out"), refused:
        exclusive(tmp_path / "out").__enter__()
    with exclusive(tmp_path / "out"):
        pass


def test_every_name_that_the_file_system_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("😀" * 62 + ".png")
    path.write_bytes(b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
