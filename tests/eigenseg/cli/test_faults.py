"""Kills, signals, a full disk and two runs at once: resumed, a run equals an undisturbed one, and nothing is left."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_disc
from PIL import Image

from eigenseg.data.files import LOCK_FILE

pytestmark = pytest.mark.slow

COUNT = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with thirty images in ``photos`` and the results of an undisturbed run in ``whole``."""
    root = tmp_path_factory.mktemp("faults")
    for i in range(COUNT):
        path = root / "photos" / f"{i % 3}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_disc(60, 80, 18, seed=i)[0]).save(path)
    process = start(root, "whole")
    assert process.wait() == 0
    return root


def start(folder: Path, out: str | Path, *more: str) -> subprocess.Popen[str]:
    settings = ["backbone=color_texture", "preprocess.resize=60", "output.masks=true", "runtime.batch_size=2", *more]
    command = [sys.executable, "-m", "eigenseg", "extract", "input=photos", f"output.dir={out}", *settings]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def written(folder: Path) -> dict[str, bytes]:
    """All files but those that hold times."""
    others = ("manifest.jsonl", "run.json")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in others
    }


def check_like_undisturbed(folder: Path, out: Path) -> None:
    assert written(out) == written(folder / "whole")
    assert not [name for name in written(out) if "/.eigenseg" in f"/{name}" and name != LOCK_FILE]
    assert not [path for path in out.rglob("*") if path.is_dir() and not any(path.iterdir())]


def lines(out: Path) -> int:
    manifest = out / "manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


def stop_midway(process: subprocess.Popen[str], out: Path, done: int, delay: float, number: int) -> None:
    """Send a signal some time after so many images are recorded."""
    while lines(out) < done and process.poll() is None:
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(number)
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_after_signals_at_random_moments_a_resumed_run_equals_an_undisturbed_one(folder: Path, number: int) -> None:
    rng, out = np.random.default_rng(int(number)), folder / f"out{int(number)}"
    leftovers = 0
    for done in sorted(rng.integers(0, COUNT, 12 if number == signal.SIGKILL else 3).tolist()):
        process = start(folder, out.name)
        stop_midway(process, out, done, float(rng.uniform(0, 0.05)), number)
        expected = {signal.SIGINT: 130}.get(signal.Signals(number), -number)
        assert process.returncode in (0, expected)
        leftovers += len(list(out.rglob("*.tmp")))
    if number == signal.SIGINT:
        assert leftovers == 0
    _, err = (process := start(folder, out.name)).communicate()
    assert process.returncode == 0, err
    check_like_undisturbed(folder, out)


def test_after_a_kill_resume_false_leaves_nothing_of_the_run_before(folder: Path) -> None:
    out = folder / "again"
    stop_midway(start(folder, out.name, "output.saliency=true", "output.arrays=true"), out, 9, 0.01, signal.SIGKILL)
    (out / "labels" / "0" / ".eigenseg-killed.tmp").write_text("half")
    _, err = (process := start(folder, out.name, "resume=false")).communicate()
    assert process.returncode == 0, err
    check_like_undisturbed(folder, out)
    _, err = (process := start(folder, out.name, "resume=false", "output.masks=false")).communicate()
    assert process.returncode == 0, err
    assert not (out / "masks").exists()


def test_of_two_runs_at_once_one_writes_and_the_other_says_so(folder: Path) -> None:
    processes = [start(folder, "both") for _ in range(2)]
    messages = [process.communicate()[1] for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes in ([0, 0], [0, 2])  # the second one may have come when the first was done
    assert codes == [0, 0] or any("another run is writing to both" in message for message in messages)
    check_like_undisturbed(folder, folder / "both")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.name != "posix"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], stderr=-3).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_stops_the_run_in_one_sentence_and_more_room_continues_it(folder: Path, small_disk: Path) -> None:
    out = small_disk / "out"
    for size in itertools.chain(["200k", "300k", "400k"], itertools.repeat("64m")):
        subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)
        _, err = (process := start(folder, out)).communicate()
        assert not list(out.rglob("*.tmp"))
        if process.returncode == 0:
            break
        assert (process.returncode, size == "64m") == (2, False), err
        (line,) = [line for line in err.splitlines() if not line.startswith("device ")]
        assert line.startswith(f"error: cannot write {out}")
        assert "the disk is full" in line
    assert size == "64m"
    check_like_undisturbed(folder, out)
