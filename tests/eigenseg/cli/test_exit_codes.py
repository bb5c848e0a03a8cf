"""Every exit code that README lists, by a run of the program that ends so."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import draw_disc
from PIL import Image

ROOT = Path(__file__).parents[3]
CODE = {**os.environ, "PYTHONPATH": str(ROOT)}
RUN = [sys.executable, "-m", "eigenseg", "extract", "input=photos", "backbone=color_texture", "output.dir=out"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with one image."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(draw_disc(90, 120, 20)[0]).save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


def code_of(folder: Path, *settings: str) -> int:
    return subprocess.run([*RUN, *settings], cwd=folder, env=CODE, capture_output=True, check=False).returncode


def test_0_all_done_1_some_images_failed_2_wrong_usage(photos: Path, tmp_path: Path) -> None:
    assert code_of(tmp_path) == 0
    (photos / "b.png").write_bytes(b"")
    assert code_of(tmp_path) == 1
    assert code_of(tmp_path, "method=nope") == 2
    (tmp_path / "file").touch()
    assert code_of(tmp_path, "output.dir=file") == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_130_stopped_by_ctrl_c(photos: Path, tmp_path: Path) -> None:
    image = draw_disc(90, 120, 20)[0]
    for i in range(300):
        Image.fromarray(image).save(photos / f"{i}.png")
    process = subprocess.Popen([*RUN, "runtime.batch_size=1"], cwd=tmp_path, env=CODE, stderr=subprocess.PIPE, text=True)
    manifest = tmp_path / "out" / "manifest.jsonl"
    while not (manifest.exists() and manifest.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; finished items are kept" in err
    assert "Traceback" not in err


def test_the_codes_tested_here_are_documented() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    (listed,) = re.findall(r"Exit codes: (.*?)\.", text)
    assert {"0", "1", "2", "130"} <= set(re.findall(r"\b\d+\b", listed))
