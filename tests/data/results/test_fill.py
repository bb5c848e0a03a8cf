"""Files that are missing are written from the records, and equal those that a run writes at once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_results import (
    EVERYTHING,
    IDENTITY,
    NOTHING,
    arrive_in_any_order,
    contents,
    keep,
    make_photos,
    open_store,
    predict,
    run,
)

from eigenseg.data import ImageSource, Instances, read_image
from eigenseg.data.results.record_log import RecordLog
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import image_writers


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    return make_photos(tmp_path / "photos")


@pytest.fixture
def complete(tmp_path: Path, sources: list[ImageSource]) -> dict[str, bytes]:
    run(tmp_path / "complete", sources).finish(sources)
    return without_run(contents(tmp_path / "complete"))


def without_run(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name != "run.json"}


def fill(store: ResultStore, sources: list[ImageSource]) -> list[str]:
    """What the extraction loop does before it predicts; returns the names of images that need no prediction."""
    filled = [source for source in sources if store.unwritten(source)]
    for source in filled:
        pixels = read_image(source.path) if store.needs_pixels(source) else None
        store.fill(source, pixels)
    return [source.name for source in filled]


def test_writers_that_are_new_write_from_the_records_and_the_arrays(
    tmp_path: Path, sources: list[ImageSource], complete: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "out", sources, **{**NOTHING, "arrays": True})
    store = open_store(tmp_path / "out")
    assert not any(store.holds(source) for source in sources)
    monkeypatch.setattr(RecordLog, "append", None)  # nothing is recorded again
    assert fill(store, sources) == [source.name for source in sources]
    assert all(store.holds(source) for source in sources)
    assert not any(store.unwritten(source) for source in sources)
    store.finish(sources)
    assert without_run(contents(tmp_path / "out")) == complete


def test_pixels_are_only_needed_for_overlays(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, **NOTHING)
    store = open_store(tmp_path / "out", **{**NOTHING, "labels": True, "masks": True})
    assert not any(store.needs_pixels(source) for source in sources)
    store.fill(sources[0])
    assert store.holds(sources[0])
    store = open_store(tmp_path / "out", **{**NOTHING, "labels": True, "overlays": True})
    assert all(store.needs_pixels(source) for source in sources)
    with pytest.raises(ValueError, match=f"{sources[1].name}: this writer needs the image itself"):
        store.fill(sources[1])


@pytest.mark.parametrize("option", ["saliency", "arrays", "heatmap"])
def test_what_needs_arrays_that_were_not_kept_is_processed_again(
    option: str, tmp_path: Path, sources: list[ImageSource]
) -> None:
    run(tmp_path / "out", sources, **{**NOTHING, "labels": True})
    store = open_store(tmp_path / "out", **{**NOTHING, option: True, "overlays": True})
    waiting = [source.name for source in sources if not store.holds(source) and not store.unwritten(source)]
    assert waiting == [source.name for source in sources if len(predict(source.name))]  # without objects, without arrays


def test_damaged_arrays_are_computed_again(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, **{**NOTHING, "arrays": True})
    path = tmp_path / "out" / "arrays" / f"{sources[-1].name}.npz"
    path.write_bytes(path.read_bytes()[:-30])
    store = open_store(tmp_path / "out", **{**NOTHING, "saliency": True})
    assert [store.unwritten(source) for source in sources] == [True] * (len(sources) - 1) + [False]
    with pytest.raises(ValueError, match=r"arrays/.*\.npz cannot be read"):
        store.record(sources[-1].name)


@pytest.mark.parametrize("folder", ["labels", "overlays", "masks", "saliency"])
def test_files_that_were_deleted_are_written_again(
    folder: str, tmp_path: Path, sources: list[ImageSource], complete: dict[str, bytes]
) -> None:
    shutil.copytree(tmp_path / "complete", tmp_path / "out")
    lost = sorted(path for path in (tmp_path / "out" / folder).rglob("*.*g") if path.is_file())[0]
    lost.unlink()
    store = open_store(tmp_path / "out")
    assert [store.holds(source) for source in sources].count(False) == 1
    assert len(fill(store, sources)) == 1
    assert without_run(contents(tmp_path / "out")) == complete


def test_overlays_are_drawn_again_when_the_heat_map_is_switched(
    tmp_path: Path, sources: list[ImageSource], complete: dict[str, bytes]
) -> None:
    run(tmp_path / "out", sources, heatmap=False)
    assert all(open_store(tmp_path / "out", heatmap=False).holds(source) for source in sources)
    store = open_store(tmp_path / "out")
    assert fill(store, sources) == [source.name for source in sources]
    store.finish(sources)
    assert without_run(contents(tmp_path / "out")) == complete
    assert all(open_store(tmp_path / "out").holds(source) for source in sources)
    assert all(open_store(tmp_path / "out", overlays=False).holds(source) for source in sources)


def test_a_new_writer_does_not_touch_the_files_of_another(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, **{**NOTHING, "labels": True})
    before = contents(tmp_path / "out")
    fill(open_store(tmp_path / "out", **{**NOTHING, "masks": True}), sources)
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before if name != "run.json"} == without_run(before)


def test_the_image_again_replaces_all_files_of_its_record(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources)
    store = open_store(tmp_path / "out", **{**NOTHING, "labels": True})
    keep(store, sources[0], Instances.empty((24, 32), "none"))
    mine = {path for path in contents(tmp_path / "out") if f"/{sources[0].name}" in path}
    assert mine == {f"labels/{sources[0].name}.png"}
    record = store.record(sources[0].name)
    assert record is not None
    assert record.instances().reason == "none"


def test_the_log_keeps_both_records_and_the_later_one_counts(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources)
    run(tmp_path / "again", sources)
    store = open_store(tmp_path / "again")
    for source in sources:
        keep(store, source)
    store.finish(sources)
    open_store(tmp_path / "out").finish(sources)
    one, two = (arrive_in_any_order(contents(tmp_path / name)) for name in ("out", "again"))
    assert one == two


def test_nothing_is_filled_without_a_result(tmp_path: Path, sources: list[ImageSource]) -> None:
    store: Any = ResultStore(tmp_path / "out", IDENTITY, image_writers(**EVERYTHING))
    store.fail(Record.failure(sources[0].name, "image", sources[0].stamp(), "broken"))
    assert not store.unwritten(sources[0])
    for source in sources[:2]:
        with pytest.raises(ValueError, match="has no result to write files from"):
            store.fill(source, np.zeros((24, 32, 3), np.uint8))
