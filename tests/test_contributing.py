"""Every example of CONTRIBUTING.md runs as it is printed."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_disc
from PIL import Image

from eigenseg.cli.main import main

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
SECTIONS = dict(re.findall(r"^### (?:A|An) ([\w ]+)$(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Photographs and masks of a disc, and a clip; evaluation and extraction of them take a second."""
    for i in range(2):
        image, mask = draw_disc(96, 128, 20 + 8 * i, seed=i)
        for folder, pixels in (("photos", image), ("masks", mask.astype(np.uint8) * 255)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    for t in range(3):
        (tmp_path / "walk").mkdir(exist_ok=True)
        Image.fromarray(draw_disc(96, 128, 20 + 4 * t, seed=0)[0]).save(tmp_path / "walk" / f"{t:05d}.png")
    return tmp_path


def test_every_kind_of_plug_has_an_example() -> None:
    kinds = {"method", "image model", "video method", "backbone", "solver", "refiner", "writer", "dataset", "metric"}
    assert set(SECTIONS) == kinds


@pytest.mark.parametrize("kind", SECTIONS)
def test_the_example_runs_as_printed(kind: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands, modules = [], []
    for language, code in BLOCK.findall(SECTIONS[kind]):
        if not language:
            commands.append(shlex.split(code))
            continue
        name, _, content = code.partition("\n")
        assert name.startswith("# ")
        assert len(content.splitlines()) <= 25, f"{name} is not a short example any more"
        path = project / name.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        modules += [path.stem] if language == "python" else []
    ((path_setting, program, *arguments),) = commands
    assert (path_setting, program) == ("PYTHONPATH=.", "eigenseg")
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    try:
        assert main(arguments) == 0
    finally:
        for module in modules:
            sys.modules.pop(module)
    if kind in ("dataset", "metric"):
        metrics = json.loads((project / modules[0] / "metrics.json").read_text())
        assert set(metrics["items"]) == {"0.png", "1.png"}
        assert metrics["metrics"][metrics["main"]] is not None
    elif kind == "video method":
        results = json.loads((project / modules[0] / "tracks.json").read_text())
        assert [one is not None for one in results["annotations"][0]["segmentations"]] == [False, True, True]
    else:
        results = json.loads((project / modules[0] / "instances.json").read_text())
        assert len(results["annotations"]) == 2
        if kind == "writer":
            assert np.asarray(Image.open(project / "outlines" / "outlines" / "1.png.png")).any()
