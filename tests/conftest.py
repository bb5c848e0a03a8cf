"""Shared fixtures: the folder of real data, real weights, and small images with a known object."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from real_weights import real_weights_file

from eigenseg.cli.main import main

Run = Callable[..., tuple[int, str, str]]

# A suite that a shell started in the background ignores Ctrl-C, and so would every program that the tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real photographs and outputs of the published code, which are not part of the repository."""
    folder = os.environ.get("EIGENSEG_TEST_DATA")
    if not folder:
        pytest.skip("EIGENSEG_TEST_DATA is not set: no real photographs and reference outputs here")
    path = Path(folder)
    assert path.is_dir(), f"EIGENSEG_TEST_DATA={folder} is not a folder"
    return path


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Weights of a DINOv2 ViT-S/14, which are not part of the repository; tests that use them are marked ``weights``."""
    return real_weights_file()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``eigenseg`` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return command


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Graphs of a hundred tokens are not worth a second thread, whose waiting takes most of the time on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_disc(height: int, width: int, radius: float, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A textured red disc on a textured blue background, and its mask."""
    noise = np.random.default_rng(seed).integers(-12, 13, (height, width, 3))
    rows, columns = np.indices((height, width))
    disc = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < radius**2
    image = np.where(disc[..., None], (200, 60, 40), (40, 80, 170)) + noise
    return image.clip(0, 255).astype(np.uint8), disc


@pytest.fixture
def disc() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(240, 320, 3) image of a disc of radius 60, and its (240, 320) mask."""
    return draw_disc(240, 320, 60)


def check_one_error(code: int, out: str, err: str, message: str) -> None:
    """A command that failed says why in one sentence, and nothing else but the device that it chose."""
    assert code == 2
    (line,) = [line for line in err.splitlines() if not line.startswith("device ")]
    assert line.startswith("error: ")
    assert message in line
    assert out == ""
