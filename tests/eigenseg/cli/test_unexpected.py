"""An error that nobody expected ends with exit code 70, one line and a file with the traceback, not as a failed image."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from PIL import Image

ARGUMENTS = ("extract", "input=a.png", "backbone=color_texture", "preprocess.resize=64")


@pytest.fixture(autouse=True)
def image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")


def fault(*arguments: object, **settings: object) -> Any:
    raise KeyError("area\nof two lines")


def check(code: int, err: str, folder: Path) -> None:
    (file,) = folder.glob("eigenseg-error-*.txt")
    (line,) = [line for line in err.splitlines() if not line.startswith("device ")]
    assert code == 70
    assert line == rf"error: unexpected KeyError: 'area\nof two lines'; please report it with {file}"
    assert "in fault\n" in file.read_text()
    assert file.read_text().startswith("eigenseg ")


def test_the_traceback_lies_in_the_output_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenseg.pipeline.ResultStore.finish", fault)
    code, _, err = run(*ARGUMENTS, "output.dir=out")
    check(code, err, tmp_path / "out")


def test_without_an_output_folder_it_lies_in_the_temporary_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("eigenseg.cli.extract.build_method", fault)
    code, _, err = run(*ARGUMENTS, "output.dir=out")
    check(code, err, tmp_path / "temporary")
    assert not (tmp_path / "out").exists()


def test_commands_without_a_configuration_end_so_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("eigenseg.cli.export.run_export", fault)
    code, _, err = run("export", "out", "labels.json")
    check(code, err, tmp_path / "temporary")


def test_a_traceback_that_can_be_written_nowhere_is_printed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("eigenseg.cli.export.run_export", fault)
    code, _, err = run("export", "out", "labels.json")
    assert code == 70
    assert "in fault\n" in err


def test_a_later_job_of_a_sweep_does_not_hide_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from eigenseg.cli import extract

    outcomes, build = iter([None, fault, ValueError]), extract.build_method

    def one_after_another(config: Any) -> Any:
        outcome = next(outcomes)
        if outcome is ValueError:
            raise ValueError("wrong")
        return outcome() if outcome else build(config)

    monkeypatch.setattr(extract, "build_method", one_after_another)
    code, _, err = run(*ARGUMENTS, "-m", "method.tau=0.1,0.2,0.3", "hydra.sweep.dir=sweep")
    assert code == 70
    assert "error: wrong" in err
    assert len(list(Path("sweep").rglob("manifest.jsonl"))) == 1


def test_a_process_ends_with_the_code(tmp_path: Path) -> None:
    program = f"""
import sys
from eigenseg.cli import main
from eigenseg.pipeline import ResultStore
def finish(*arguments): return {{}}["area"]
ResultStore.finish = finish
sys.exit(main.main({[*ARGUMENTS, "output.dir=out"]!r}))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    arguments = [sys.executable, "-c", program]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 70, done.stderr
    assert "Traceback" not in done.stderr
    assert "KeyError: 'area'" in next((tmp_path / "out").glob("eigenseg-error-*.txt")).read_text()
