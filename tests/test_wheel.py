"""The wheel, installed somewhere else, runs from a folder that knows nothing of the checkout, with a user's own method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from sklearn.datasets import load_sample_image

ROOT = Path(__file__).parents[1]

MY_METHOD = '''
import numpy as np
from eigenseg import Instances, Preprocess

class Brightest:
    """The brightest patch."""
    preprocess = Preprocess(mode="round")
    needs_attention = False

    def __init__(self, channel: int = 0) -> None:
        self.channel = channel

    def __call__(self, features, images):
        results = []
        for geometry, tokens in zip(features.geometries, features.tokens):
            grid = tokens[:, self.channel].reshape(features.grid)
            masks = geometry.masks_to_image(grid == grid.max())[None].numpy()
            height, width = geometry.image_size
            results.append(Instances(masks, np.ones(1), np.array([[0, 0, width, height]]), geometry.image_size))
        return results
'''


def run(*command: object, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from an sdist, so that the sdist is complete too. No isolation: nothing is fetched."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, folder=ROOT)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which borrows the dependencies of this one; its bin folder."""
    home = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", home, folder=home)
    python = home / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, folder=home)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=home).strip())
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@pytest.mark.slow
def test_the_wheel_holds_real_files_of_every_folder_and_every_yaml(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("data", "discovery", "segment", "video", "configs"):
        for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.yaml")]:
            assert f"eigenseg/{path.relative_to(ROOT)}" in names
    assert {"eigenseg/py.typed", "eigenseg/report/page.html"} <= names
    assert {name.split("/")[0] for name in names} == {"eigenseg", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}


@pytest.mark.slow
def test_the_console_script_runs_shipped_and_own_methods_from_another_folder(installed: Path, tmp_path: Path) -> None:
    from PIL import Image

    where = run(installed / "python", "-c", "import eigenseg.data; print(eigenseg.data.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)

    Image.fromarray(load_sample_image("flower.jpg")).save(tmp_path / "flower.png")
    arguments = ("extract", "input=flower.png", "backbone=color_texture")
    out = run(installed / "eigenseg", *arguments, "output.dir=shipped", folder=tmp_path)
    assert "1 image, 1 instance," in out

    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "brightest.yaml").write_text("_target_: my_methods.Brightest\nchannel: 0\n")
    (tmp_path / "my_methods.py").write_text(MY_METHOD)
    options = ("--config-dir", "conf", "method=brightest", "allow_targets=[my_methods]", "output.dir=own")
    run(installed / "eigenseg", *arguments, *options, folder=tmp_path, PYTHONPATH=str(tmp_path))
    (tmp_path / "masks").mkdir()
    Image.fromarray(load_sample_image("flower.jpg").max(axis=2) // 128 * 255).save(tmp_path / "masks" / "flower.png")
    dataset = ("dataset=saliency", "dataset.images=shipped/labels", "dataset.masks=masks", "predictions=shipped")
    (tmp_path / "shipped" / "labels" / "flower.png.png").rename(tmp_path / "shipped" / "labels" / "flower.png")
    out = run(installed / "eigenseg", "evaluate", *dataset, "output.dir=scored", folder=tmp_path)
    assert "saliency, tokencut family" in out
    assert "data:image/jpeg;base64," in (tmp_path / "scored" / "report.html").read_text()
    shipped, own = (
        json.loads((tmp_path / name / "instances.json").read_text())["annotations"][0] for name in ("shipped", "own")
    )
    assert own["score"] == 1.0
    assert 0 < own["area"] < 2000 < shipped["area"]  # about one patch, and the flower
