"""A file is written completely or not at all: when a step fails only the old file remains, and the error says why."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from eigenseg.data import files as module, find_images
from eigenseg.data.files import (
    LOCK_FILE,
    OutputError,
    exclusive,
    make_folder,
    write_bytes,
    write_image,
    write_json,
)

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


def break_step(step: str, number: int, monkeypatch: pytest.MonkeyPatch, where: Any = os) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(where, step, fail)


def entries(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", REASONS)
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_when_a_step_fails_only_the_old_file_remains(
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


def test_when_the_disk_is_full_half_way_only_the_old_file_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "result.json").write_bytes(b"old")
    monkeypatch.setattr(module, "open", HalfFull, raising=False)
    with pytest.raises(OutputError, match=r"result\.json: the disk is full"):
        write_bytes(tmp_path / "result.json", b"a new result")
    monkeypatch.undo()
    assert entries(tmp_path) == {"result.json": b"old"}


def test_after_an_interruption_only_the_old_file_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "result.json").write_bytes(b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "result.json", b"new")
    assert entries(tmp_path) == {"result.json": b"old"}


def test_a_file_replaces_the_old_one_and_its_folder_is_created(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "result.json", b"old")
    write_bytes(tmp_path / "a" / "b" / "result.json", b"new")
    assert entries(tmp_path) == {"a/b/result.json": b"new"}


def test_until_the_rename_a_reader_sees_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_writing_never_touches_the_umask_which_all_threads_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
            names = [tmp_path / f"{i}" for i in range(8)]
            threads = [threading.Thread(target=write_bytes, args=(name, b"x")) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert {name.stat().st_mode & 0o777 for name in names} == {0o640}
    finally:
        os.umask(before)


def test_a_file_with_the_name_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(OutputError, match=f"^cannot create folder {tmp_path}/out: a file of that name is in the way"):
        make_folder(tmp_path / "out")
    with pytest.raises(
        OutputError, match=f"^cannot write {tmp_path}/out/labels: a part of the path is a file, not a folder"
    ):
        write_bytes(tmp_path / "out" / "labels" / "a.png", b"x")
    assert entries(tmp_path) == {"out": b"mine"}


def test_json_is_read_back_and_nan_is_rejected(tmp_path: Path) -> None:
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
def test_a_png_is_lossless(pixels: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", pixels)
    write_image(tmp_path / "b.png", np.asfortranarray(pixels))
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels, strict=True)


def test_a_jpeg_keeps_its_colors_and_quality_counts(tmp_path: Path) -> None:
    flat = np.full((32, 32, 3), (200, 40, 90), dtype=np.uint8)
    write_image(tmp_path / "flat.jpg", flat)
    with Image.open(tmp_path / "flat.jpg") as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - flat).max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    sizes = []
    for quality in (20, 60, 95):
        write_image(tmp_path / "noise.jpg", noise, quality)
        sizes.append((tmp_path / "noise.jpg").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_an_image_that_the_format_cannot_hold_is_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wide\.jpg: an image of shape \(1, 65536, 3\) cannot be encoded as \.jpg"):
        write_image(tmp_path / "wide.jpg", np.zeros((1, 65536, 3), np.uint8))
    assert entries(tmp_path) == {}


HOLD = """
import sys, time
from pathlib import Path
from eigenseg.data.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""
rejected = pytest.raises(
    OutputError, match=r"^another run is writing to .*out; wait for it, or choose another output\.dir$"
)


def test_a_folder_is_locked_by_one_run_at_a_time(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "out"):
            with rejected as raised:
                exclusive(tmp_path / "out").__enter__()
            assert raised.value.errno == errno.EAGAIN


def test_a_lock_is_released_after_an_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = []  # kept, because the garbage collector releases a lock too

    def create(*arguments: Any, **settings: Any) -> FileLock:
        locks.append(FileLock(*arguments, **settings))
        return locks[-1]

    monkeypatch.setattr(module, "FileLock", create)
    with pytest.raises(KeyError), exclusive(tmp_path / "out"):
        raise KeyError
    assert [lock.is_locked for lock in locks] == [False]


def test_the_lock_of_another_process_ends_when_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            with rejected:
                exclusive(tmp_path / "out").__enter__()
        finally:
            process.kill()
    with exclusive(tmp_path / "out"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_in_the_file_system_a_warning_is_logged_and_the_run_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fcntl = pytest.importorskip("fcntl")
    break_step("flock", number, monkeypatch, fcntl)
    with exclusive(tmp_path / "out"), exclusive(tmp_path / "out"):
        write_bytes(tmp_path / "out" / "a", b"x")
    assert f"out cannot be locked ({os.strerror(number)}): do not start a second run into it" in caplog.text
    assert set(entries(tmp_path / "out")) <= {"a", LOCK_FILE}


def test_a_lock_file_is_not_an_input_image(tmp_path: Path) -> None:
    write_image(tmp_path / "out" / "a.png", np.zeros((2, 2), np.uint8))
    with exclusive(tmp_path / "out"):
        assert [source.name for source in find_images(tmp_path / "out")] == ["a.png"]
    assert LOCK_FILE.startswith(".")
    assert entries(tmp_path / "out").get(LOCK_FILE, b"") == b""


def test_the_source_uses_no_unix_only_modules() -> None:
    root = Path(module.__file__).parents[1]
    sources = [
        path for name in ("data", "discovery", "segment", "video", "eigenseg") for path in (root / name).rglob("*.py")
    ]
    assert len(sources) > 100
    unix = [
        path for path in sources if re.search(r"\bimport fcntl|os\.fork\(|os\.fchmod", path.read_text(encoding="utf-8"))
    ]
    assert unix == []


def test_every_name_that_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("😀" * 62 + ".png")
    path.write_bytes(b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
