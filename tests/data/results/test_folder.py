"""What killed runs and other versions left in a folder is removed, continued or rejected, never mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from toy_results import IDENTITY, contents, folders, make_photos, open_store, run

from eigenseg.data import ImageSource
from eigenseg.data.results.records import SCHEMA
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import image_writers

OLD = Path(__file__).parents[2] / "eigenseg" / "cli" / "version_0_1" / "out"


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    return make_photos(tmp_path / "photos")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    (tmp_path / "old" / "masks" / "disc.png").mkdir(parents=True)
    (tmp_path / "old" / "masks" / "disc.png" / "001.png").write_bytes(b"the second of its two masks")
    return tmp_path / "old"


def test_leftovers_of_killed_runs_are_removed_and_nothing_else(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources).finish(sources)
    before = contents(tmp_path / "out")
    for name in (".eigenseg-1.tmp", "labels/.eigenseg-2.tmp", "masks/b/new.jpg/.eigenseg-x.tmp"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("half")
    mine = {"notes/.eigenseg-3.tmp": b"mine", "labels/notes.tmp": b"mine", ".eigenseg.lock": b""}
    for name, content in mine.items():
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_bytes(content)
    (tmp_path / "out" / "empty").mkdir()
    open_store(tmp_path / "out")
    assert contents(tmp_path / "out") == {**before, **mine}
    assert "masks/b/new.jpg" not in folders(tmp_path / "out")
    assert {"empty", "masks/b/rex.jpg"} <= folders(tmp_path / "out")


def test_a_run_that_is_rejected_changes_nothing(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources)
    (tmp_path / "out" / "labels" / ".eigenseg-2.tmp").write_text("half")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match="holds results of another run"):
        ResultStore(tmp_path / "out", {**IDENTITY, "seed": 1}, image_writers())
    assert contents(tmp_path / "out") == before


def test_a_folder_of_an_older_version_is_not_continued(old: Path) -> None:
    before = contents(old)
    identity = json.loads(before["run.json"])["identity"]
    with pytest.raises(ValueError, match="older version of eigenseg") as raised:
        ResultStore(old, identity, image_writers())
    message = str(raised.value)
    for words in (str(old), "evaluate, export and collect still read", "another output.dir", "resume=false"):
        assert words in message
    assert contents(old) == before


def test_a_folder_of_an_older_version_is_replaced_without_resume(old: Path, sources: list[ImageSource]) -> None:
    (old / "labels" / "mine.png").write_bytes(b"mine")
    ResultStore(old, IDENTITY, image_writers(), resume=False)
    assert contents(old).keys() == {"run.json", "labels/mine.png"}
    assert folders(old) == {"labels"}
    assert json.loads((old / "run.json").read_text())["schema"] == SCHEMA
    assert not ResultStore(old, IDENTITY, image_writers()).holds(sources[0])


@pytest.mark.parametrize("content", ['{"image": "a", "status": "failed", "error": "x"}\n', '{"image": "a", "sta', '{"i'])
def test_a_folder_in_which_an_older_version_finished_nothing_is_taken_over(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(content)
    (tmp_path / "run.json").write_text(json.dumps({"identity": {}}))
    store = ResultStore(tmp_path, IDENTITY, image_writers())
    assert list(store.records()) == []
    assert contents(tmp_path).keys() == {"run.json"}


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_a_newer_version_is_neither_continued_nor_replaced(
    resume: bool, tmp_path: Path, sources: list[ImageSource]
) -> None:
    run(tmp_path / "out", sources)
    settings = json.loads((tmp_path / "out" / "run.json").read_text())
    (tmp_path / "out" / "run.json").write_text(json.dumps({**settings, "schema": SCHEMA + 1}))
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match=rf"newer version of eigenseg \(schema {SCHEMA + 1}.* another output\.dir"):
        ResultStore(tmp_path / "out", IDENTITY, image_writers(), resume=resume)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_manifest_of_another_program_is_unchanged(resume: bool, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("my notes\n")
    with pytest.raises(ValueError, match="is not a record of eigenseg; choose another"):
        ResultStore(tmp_path, IDENTITY, image_writers(), resume=resume)
    assert contents(tmp_path) == {"manifest.jsonl": b"my notes\n"}
