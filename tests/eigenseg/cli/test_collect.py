"""A sweep's results become one table, best first, with a column for each setting that was varied, and a plot."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenseg.cli.collect import Run, flatten, run_collect, varied_settings
from eigenseg.cli.main import main


def write(folder: Path, corloc: float | None, **settings: Any) -> None:
    folder.mkdir(parents=True)
    config = {"method": {"tau": settings.get("tau", 0.2)}, "backbone": {"facet": settings.get("facet", "key")}}
    content = {
        "dataset": "toy",
        "protocol": "CorLoc",
        "tag": "all",
        "main": settings.get("main", "corloc"),
        "metrics": {"corloc": corloc, "mae": settings.get("mae", 1 - (corloc or 0))},
        "choices": {"backbone": settings.get("backbone", "dino"), "method": "tokencut", "hydra/launcher": "basic"},
        "config": {**config, "output": {"dir": str(folder)}, "runtime": {"threads": len(folder.name)}},
    }
    (folder / "metrics.json").write_text(json.dumps(content))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path) as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_varied_settings_and_all_metrics_best_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", 0.5, tau=0.1)
    write(tmp_path / "bb", 0.8, tau=0.2)
    write(tmp_path / "c", None, tau=0.3)
    assert main(["collect", str(tmp_path)]) == 0
    assert rows(tmp_path / "collected.csv") == [
        {"run": "bb", "method.tau": "0.2", "corloc": "0.8", "mae": str(1 - 0.8)},
        {"run": "a", "method.tau": "0.1", "corloc": "0.5", "mae": "0.5"},
        {"run": "c", "method.tau": "0.3", "corloc": "", "mae": "1"},
    ]
    out = capsys.readouterr().out
    assert "3 runs, best corloc first" in out
    assert out.index("0.8000") < out.index("0.5000")


def test_runs_that_no_setting_tells_apart_are_told_apart_by_folder_and_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "first", 0.5)
    write(tmp_path / "second", 0.4)
    path = tmp_path / "second" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "notes": ["only the first 6 of 80 items"]}))
    run_collect([str(tmp_path)])
    out = capsys.readouterr().out
    assert "first" in out
    assert "second" in out
    assert "only the first 6 of 80 items" in " ".join(out.split())
    assert rows(tmp_path / "collected.csv")[1]["notes"] == "only the first 6 of 80 items"


def test_lower_can_be_better(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.5, tau=0.1)
    write(tmp_path / "b", 0.8, tau=0.2)
    table = run_collect([str(tmp_path), "--metric", "mae", "--ascending", "--output", str(tmp_path / "elsewhere")])["rows"]
    assert [row["run"] for row in table] == ["b", "a"]
    assert (tmp_path / "elsewhere" / "collected.csv").is_file()
    assert not (tmp_path / "collected.csv").exists()


def test_a_yamls_own_values_hide_behind_its_name(tmp_path: Path) -> None:
    def runs(*pairs: tuple[str, str]) -> list[Run]:
        return [Run(str(i), {"backbone": name, "backbone.facet": facet}, {}) for i, (name, facet) in enumerate(pairs)]

    assert varied_settings(runs(("s", "key"), ("b", "value"))) == ["backbone"]
    assert varied_settings(runs(("s", "key"), ("s", "value"))) == ["backbone.facet"]
    assert varied_settings(runs(("s", "key"), ("s", "value"), ("b", "key"))) == ["backbone", "backbone.facet"]
    assert varied_settings(runs(("s", "key"))) == []


def test_nested_settings_become_dotted_names() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


@pytest.mark.parametrize("varied", [{"tau": (0.1, 0.2, 0.3)}, {"facet": ("key", "query", "value")}])
def test_the_plot_shows_every_run(tmp_path: Path, varied: dict[str, tuple[Any, ...]]) -> None:
    ((name, values),) = varied.items()
    plots = []
    for scores in ((0.2, 0.6, 0.4), (0.2, 0.6, 0.9)):
        folder = tmp_path / str(scores)
        for i, value in enumerate(values):
            write(folder / str(i), scores[i], **{name: value})
        run_collect([str(folder)])
        plots.append(np.asarray(Image.open(folder / "collected.png").convert("L")))
    assert (plots[0] < 128).sum() > 500
    assert (plots[0] != plots[1]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "collect: no such folder gone"),
        (["void"], "collect: no metrics.json below void"),
        (["foreign"], "foreign/metrics.json is not a file that eigenseg evaluate wrote: dataset is missing"),
        (
            ["damaged"],
            "damaged/metrics.json is not a file that eigenseg evaluate wrote: metrics.* must be an integer or a ",
        ),
        (["good", "--metric", "speed"], "--metric speed is in no result; known: corloc, mae"),
        (["good", "other"], "the results quote different metrics (AP, corloc); collect them apart, or give --metric"),
    ],
)
def test_wrong_folders_give_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("void").mkdir()
    Path("foreign").mkdir()
    Path("foreign", "metrics.json").write_text('{"accuracy": 1}')
    write(Path("damaged"), 0.5, mae="high")
    write(Path("good", "a"), 0.5)
    write(Path("other", "a"), 0.5, main="AP")
    assert main(["collect", *arguments]) == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_a_sweep_is_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        Path(folder).mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3 if folder == "images" else 1), dtype=np.uint8)
        Image.fromarray(pixels.squeeze()).save(Path(folder, "0.png"))
    command = ["dataset=saliency", "dataset.images=images", "dataset.masks=masks", "backbone=color_texture"]
    assert main(["evaluate", "-m", *command, "preprocess.resize=40", "method.tau=0.1,0.3", "hydra.sweep.dir=sweep"]) == 0
    assert main(["collect", "sweep"]) == 0
    assert {row["method.tau"] for row in rows(Path("sweep", "collected.csv"))} == {"0.1", "0.3"}
