"""A result folder of a run that was interrupted and resumed equals that of an uninterrupted run, byte for byte."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from toy_results import (
    EMPTY,
    EVERYTHING,
    IDENTITY,
    NOTHING,
    PHOTOS,
    RUN,
    arrive_in_any_order,
    contents,
    fail,
    folders,
    keep,
    make_photos,
    open_store,
    predict,
    run,
)

from eigenseg.data import ImageSource, Instances, read_image
from eigenseg.data.files import write_bytes
from eigenseg.data.results import writers as module
from eigenseg.data.results.base import Writer
from eigenseg.data.results.record_log import RecordLog
from eigenseg.data.results.records import SCHEMA, Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import OverlayWriter, image_writers

# pycocotools' own result type does not know NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    return make_photos(tmp_path / "photos")


@pytest.fixture
def uninterrupted(tmp_path: Path, sources: list[ImageSource]) -> dict[str, bytes]:
    run(tmp_path / "uninterrupted", sources).finish(sources)
    return contents(tmp_path / "uninterrupted")


def test_files_mirror_the_images_path_and_suffix(uninterrupted: dict[str, bytes]) -> None:
    expected = {"instances.json", "manifest.jsonl", "run.json"}
    for name in PHOTOS:
        expected |= {f"labels/{name}.png", f"overlays/{name}.jpg", f"saliency/{name}.png", f"arrays/{name}.npz"}
        expected |= set() if name == EMPTY else {f"masks/{name}/000.png", f"masks/{name}/001.png"}
    assert set(uninterrupted) == expected


@pytest.mark.parametrize("done", range(len(PHOTOS) + 1))
def test_interrupted_after_any_image_and_resumed_equals_uninterrupted(
    done: int, tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes]
) -> None:
    run(tmp_path / "out", sources, limit=done)
    continued = open_store(tmp_path / "out")
    assert [continued.holds(source) for source in sources] == [True] * done + [False] * (len(PHOTOS) - done)
    run(tmp_path / "out", sources).finish(sources)
    assert contents(tmp_path / "out") == uninterrupted


class KilledError(BaseException):
    """Leaves everything as it is, like the end of the process."""


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("steps", range(6))
def test_files_without_a_record_are_removed_though_other_files_are_written_now(
    steps: int, resume: bool, tmp_path: Path, sources: list[ImageSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, genuine, calls = tmp_path / "out", module.write_image, []

    def write_or_die(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > steps:
            raise KilledError
        genuine(*arguments)

    def die(*_: Any) -> None:
        raise KilledError

    monkeypatch.setattr(module, "write_image", write_or_die)
    monkeypatch.setattr(RecordLog, "append", die)
    with pytest.raises(KilledError):
        run(root, sources, limit=2)
    monkeypatch.undo()
    others = [*image_writers(labels=False, overlays=True)]
    ResultStore(root, IDENTITY, others, resume=resume).finish([])
    assert set(contents(root)) <= {"run.json", "instances.json", "manifest.jsonl"}
    assert not [path for path in root.rglob("*") if path.is_dir() or path.suffix == ".begun"]


def test_files_of_a_finished_record_stay_though_its_note_was_left(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RecordLog.append

    def append_and_die(*arguments: Any) -> None:
        append(*arguments)
        raise KilledError

    monkeypatch.setattr(RecordLog, "append", append_and_die)
    with pytest.raises(KilledError):
        run(tmp_path / "out", sources, limit=1)
    monkeypatch.undo()
    assert len(list((tmp_path / "out").glob(".eigenseg-*.begun"))) == 1
    assert open_store(tmp_path / "out").holds(sources[0])
    run(tmp_path / "out", sources).finish(sources)
    assert not list((tmp_path / "out").glob(".eigenseg-*.begun"))
    assert contents(tmp_path / "out") == uninterrupted


@pytest.mark.parametrize("step", ["label", "mask", "second mask", "saliency", "overlay", "record"])
def test_an_image_with_missing_files_is_not_recorded_and_processed_again(
    step: str, tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, genuine = tmp_path / "out", module.write_image
    run(root, sources, limit=2)
    before = (root / "manifest.jsonl").read_bytes()
    calls = iter(["label", "mask", "second mask", "saliency", "overlay"])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def write_or_die(*arguments: Any) -> None:
        if next(calls) == step:
            killed()
        genuine(*arguments)

    monkeypatch.setattr(module, "write_image", write_or_die)
    if step == "record":
        monkeypatch.setattr(RecordLog, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        run(root, sources, limit=1)
    monkeypatch.undo()
    assert (root / "manifest.jsonl").read_bytes() == before
    assert not open_store(root).holds(sources[2])
    run(root, sources).finish(sources)
    assert contents(root) == uninterrupted


def test_the_record_is_written_after_all_other_files(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, genuine, appended = tmp_path / "out", RecordLog.append, []

    def append(log: RecordLog, record: Record, line: bytes) -> None:
        mine = [name for name in uninterrupted if f"/{record.name}" in name]
        assert mine
        assert {name: contents(root).get(name) for name in mine} == {name: uninterrupted[name] for name in mine}
        appended.append(record.name)
        genuine(log, record, line)

    monkeypatch.setattr(RecordLog, "append", append)
    run(root, sources)
    assert sorted(appended) == sorted(PHOTOS)


def test_eight_threads_at_once_write_what_one_writes(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    many = [ImageSource(source.path, f"{i:02d}/{source.name}") for i in range(16) for source in sources]
    before = os.umask(0o022)
    one, eight = (open_store(tmp_path / name) for name in ("one", "eight"))
    for source in many:
        keep(one, source)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda source: keep(eight, source), reversed(many)))
    assert os.umask(before) == 0o022
    assert one.finish(many).read_bytes() == eight.finish(reversed(many)).read_bytes()
    assert arrive_in_any_order(contents(tmp_path / "eight")) == arrive_in_any_order(contents(tmp_path / "one"))
    assert all(open_store(tmp_path / "eight").holds(source) for source in many)


def test_a_changed_image_is_processed_again_and_an_unchanged_one_is_not(tmp_path: Path, sources: list[ImageSource]) -> None:
    store = run(tmp_path / "out", sources)
    assert all(store.holds(source) for source in sources)
    status = sources[0].path.stat()
    os.utime(sources[0].path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    times = sources[1].path.stat()
    sources[1].path.write_bytes(sources[1].path.read_bytes() + b"\0")
    os.utime(sources[1].path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [store.holds(source) for source in sources] == [False, False, True, True]
    assert [open_store(tmp_path / "out").holds(source) for source in sources] == [False, False, True, True]
    assert not any(open_store(tmp_path / "out").unwritten(source) for source in sources)
    assert all(run(tmp_path / "out", sources).holds(source) for source in sources)


def test_a_failure_is_recorded_excluded_from_the_results_and_retried(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes]
) -> None:
    store = run(tmp_path / "out", sources, limit=1)
    fail(store, sources[1], "it is truncated")
    assert not store.holds(sources[1])
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1]) == {
        "schema": SCHEMA, "name": sources[1].name, "kind": "image", "status": "failed", "stamp": sources[1].stamp(),
        "error": "it is truncated",
    }  # fmt: skip
    assert [image["file_name"] for image in json.loads(store.finish(sources).read_text())["images"]] == [sources[0].name]
    finished = run(tmp_path / "out", sources).finish(sources)
    assert finished.read_bytes() == uninterrupted["instances.json"]


def test_results_of_another_identity_are_rejected_and_only_what_differs_is_named(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    before = contents(run(tmp_path / "out", sources, limit=1).root)
    other = {"method": {"name": "tokencut", "tau": 0.3}, "input": "photos", "seed": 1}
    named = r"method\.tau \(0\.2 before, 0\.3 now\), seed \(absent before, 1 now\)"
    with pytest.raises(ValueError, match=rf"/out holds .*output\.dir, or resume=false .* Different: {named}$"):
        ResultStore(tmp_path / "out", other, image_writers())
    assert contents(tmp_path / "out") == before


def test_values_outside_the_identity_may_change(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, limit=1)
    before = (tmp_path / "out" / "run.json").read_bytes()
    newer = ResultStore(tmp_path / "out", IDENTITY, image_writers(**EVERYTHING), {"versions": {"eigenseg": "1"}})
    assert newer.holds(sources[0])
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    written = json.loads(before)
    assert (written["schema"], written["identity"]) == (SCHEMA, IDENTITY)
    assert written["versions"] == RUN["versions"]


def test_the_end_of_a_run_adds_to_what_its_beginning_said(tmp_path: Path) -> None:
    store = open_store(tmp_path / "out")
    before = json.loads((tmp_path / "out" / "run.json").read_text())
    store.update_run(seconds={"read": 1.5}, bottleneck="read")
    store.update_run(seconds={"read": (2, 3)})
    after = json.loads((tmp_path / "out" / "run.json").read_text())
    assert after == {**before, "seconds": {"read": [2, 3]}, "bottleneck": "read"}


def test_a_folder_without_records_accepts_any_identity(tmp_path: Path) -> None:
    open_store(tmp_path / "out")
    ResultStore(tmp_path / "out", {"method": "maskcut"}, image_writers())
    assert json.loads((tmp_path / "out" / "run.json").read_text())["identity"] == {"method": "maskcut"}


def test_without_resume_the_records_start_empty_with_the_new_identity(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources)
    other = {"method": "maskcut"}
    store = ResultStore(tmp_path / "out", other, image_writers(), resume=False)
    assert not any(store.holds(source) for source in sources)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["identity"] == other
    assert json.loads(store.finish(sources).read_text())["images"] == []
    assert not any(ResultStore(tmp_path / "out", other, image_writers()).holds(source) for source in sources)


def test_finishing_again_changes_neither_a_byte_nor_the_time(tmp_path: Path, sources: list[ImageSource]) -> None:
    path = run(tmp_path / "out", sources, limit=3).finish(sources)
    content = path.read_bytes()
    os.utime(path, ns=(1, 1))
    assert open_store(tmp_path / "out").finish(sources) == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, 1)
    run(tmp_path / "out", sources).finish(sources)
    assert path.read_bytes() != content


def test_coco_ids_count_from_one_in_the_order_of_names_whatever_the_order_of_work(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    annotation = COCO(str(run(tmp_path / "out", sources[::-1]).finish(sources)))
    images = annotation.loadImgs(annotation.getImgIds())
    assert [(image["id"], image["file_name"]) for image in images] == list(enumerate(sorted(PHOTOS), start=1))
    assert all((image["width"], image["height"]) == (32, 24) for image in images)
    expected = iter(range(1, 100))
    for image in images:
        instances = predict(image["file_name"])
        annotations = annotation.loadAnns(annotation.getAnnIds(imgIds=image["id"]))
        assert [one["id"] for one in annotations] == [next(expected) for _ in instances]
        assert [one["score"] for one in annotations] == instances.scores.tolist()
        for one, mask in zip(annotations, np.asarray(instances.masks), strict=True):
            np.testing.assert_array_equal(annotation.annToMask(one), mask)
    assert [category["name"] for category in annotation.loadCats(annotation.getCatIds())] == ["fg"]


def test_only_the_requested_images_are_written(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, **NOTHING)
    assert set(contents(tmp_path / "out")) == {"manifest.jsonl", "run.json"}


def test_records_give_back_what_was_added(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources)
    store = open_store(tmp_path / "out")
    for source in sources:
        record = store.record(source.name)
        assert record is not None
        assert record.instances().equals(predict(source.name))
        assert (record.stamp, record.milliseconds) == (source.stamp(), 1.0)
    assert [record.name for record in store.records()] == [source.name for source in sources]
    assert {record.name: record.reason for record in store.records() if record.count == 0} == {EMPTY: "fog everywhere"}
    assert store.record("absent") is None


def test_an_image_processed_again_with_fewer_objects_leaves_no_old_masks(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    store = run(tmp_path / "out", sources)
    keep(store, sources[-1], predict(sources[-1].name)[:1])
    assert [path.name for path in (tmp_path / "out" / "masks" / sources[-1].name).iterdir()] == ["000.png"]


@pytest.mark.parametrize("options", [EVERYTHING, NOTHING])
def test_without_resume_the_files_of_all_records_are_removed(
    options: dict[str, bool], tmp_path: Path, sources: list[ImageSource]
) -> None:
    run(tmp_path / "out", sources).finish(sources)
    (tmp_path / "out" / "labels" / "mine.png").write_text("not written by eigenseg")
    ResultStore(tmp_path / "out", IDENTITY, image_writers(**options), resume=False)
    assert contents(tmp_path / "out").keys() == {"run.json", "labels/mine.png"}
    assert folders(tmp_path / "out") == {"labels"}


def test_a_failure_removes_the_results_of_an_earlier_version_of_the_image(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    run(tmp_path / "out", sources)
    store = open_store(tmp_path / "out", **NOTHING)
    source = next(source for source in sources if source.name == "b/rex.jpg")
    fail(store, source, "it is truncated")
    store.finish(sources)
    assert not [path for path in contents(tmp_path / "out") if source.name in path]
    assert not [path for path in folders(tmp_path / "out") if path.endswith("/b")]
    assert [(record.name, record.error) for record in store.failures(sources)] == [(source.name, "it is truncated")]


def test_images_removed_from_the_input_are_removed_from_the_dataset(tmp_path: Path, sources: list[ImageSource]) -> None:
    store = run(tmp_path / "out", sources)
    fail(store, sources[0], "gone")
    content = json.loads(store.finish(sources[2:]).read_text())
    assert [image["file_name"] for image in content["images"]] == [source.name for source in sources[2:]]
    assert store.failures(sources[2:]) == []


def test_a_folder_with_only_failures_may_be_used_with_other_settings(tmp_path: Path, sources: list[ImageSource]) -> None:
    fail(open_store(tmp_path / "out"), sources[0], "broken")
    other = ResultStore(tmp_path / "out", {"method": "other"}, image_writers())
    assert list(other.records()) == []
    assert json.loads((tmp_path / "out" / "run.json").read_text())["identity"] == {"method": "other"}


def test_a_setting_that_is_new_and_none_is_named(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, limit=1)
    with pytest.raises(ValueError, match=r"Different: resize \(absent before, None now\)"):
        ResultStore(tmp_path / "out", {**IDENTITY, "resize": None}, image_writers())


def test_an_identity_is_compared_as_json(tmp_path: Path, sources: list[ImageSource]) -> None:
    keep(ResultStore(tmp_path / "out", {"scales": (1, 2)}, image_writers()), sources[0])
    assert ResultStore(tmp_path / "out", {"scales": [1, 2]}, image_writers()).holds(sources[0])


def test_class_names_of_different_images_become_one_table(tmp_path: Path, sources: list[ImageSource]) -> None:
    store = open_store(tmp_path / "out", **NOTHING)
    for source, names in zip(sources, [("cat", "dog"), ("dog",), ("fg", "cat")], strict=False):
        count = len(names)
        masks, boxes = np.ones((count, 24, 32), bool), np.zeros((count, 4), np.float32)
        scores = np.full(count, 0.5, np.float32)
        keep(store, source, Instances(masks, scores, boxes, (24, 32), labels=np.arange(count), names=names))
    content = json.loads(store.finish(sources).read_text())
    table = {category["id"]: category["name"] for category in content["categories"]}
    assert [table[annotation["category_id"]] for annotation in content["annotations"]] == ["cat", "dog", "dog", "fg", "cat"]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_records_without_an_identity_are_not_resumed(
    content: str | None, tmp_path: Path, sources: list[ImageSource]
) -> None:
    run(tmp_path / "out", sources, limit=1)
    (tmp_path / "out" / "run.json").unlink()
    if content is not None:
        (tmp_path / "out" / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json does not contain the settings"):
        ResultStore(tmp_path / "out", {"method": "maskcut"}, image_writers())


def test_an_image_that_is_gone_is_not_held(tmp_path: Path, sources: list[ImageSource]) -> None:
    store = run(tmp_path / "out", sources)
    store.add(Record.of("memory", None, predict("memory")), np.zeros((24, 32, 3), np.uint8))
    sources[0].path.unlink()
    assert not store.holds(sources[0])
    assert not store.holds(ImageSource(tmp_path / "nowhere", "memory"))


def test_the_stamp_is_that_of_the_image_before_it_was_read(tmp_path: Path, sources: list[ImageSource]) -> None:
    store, stamp = open_store(tmp_path / "out"), sources[0].stamp()
    image = read_image(sources[0].path)
    sources[0].path.write_bytes(sources[1].path.read_bytes() + b"edited while it was processed")
    store.add(Record.of(sources[0].name, stamp, predict(sources[0].name)), image)
    assert not store.holds(sources[0])


def test_a_result_that_cannot_be_written_leaves_no_file(
    tmp_path: Path, sources: list[ImageSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "out")

    def too_wide(*_: object) -> None:
        raise ValueError("an image of this shape cannot be encoded as .jpg")

    monkeypatch.setattr(OverlayWriter, "write", too_wide)
    with pytest.raises(ValueError, match="cannot be encoded"):
        keep(store, sources[0])
    with pytest.raises(ValueError, match=r"metadata\['x'\] holds a set"):
        keep(store, sources[0], Instances.empty((24, 32), "none", x={1}))
    store.finish(sources)
    assert set(contents(tmp_path / "out")) == {"run.json", "instances.json"}
    assert folders(tmp_path / "out") == set()


def test_images_and_clips_do_not_share_a_store(tmp_path: Path) -> None:
    from eigenseg.data.results.clip_writers import clip_writers

    with pytest.raises(ValueError, match="writers must be of one kind"):
        ResultStore(tmp_path / "out", IDENTITY, [*image_writers(), *clip_writers()])
    with pytest.raises(ValueError, match="a is a record of kind image, this store holds the kind clip"):
        ResultStore(tmp_path / "out", IDENTITY, kind="clip").add(Record.of("a", None, predict("a")))


class SizeWriter(Writer):
    """A user's writer: ``sizes/<name>.txt``."""

    name = "sizes"

    def __init__(self, unit: str = "pixels") -> None:
        self.settings = {"unit": unit}

    def paths(self, record: Record) -> list[str]:
        return [f"sizes/{record.name}.txt"]

    def write(self, root: Path, record: Record, pixels: Any) -> None:
        write_bytes(root / self.paths(record)[0], f"{record.image_size} {self.settings['unit']}".encode())


def test_files_of_a_users_writer_are_removed_and_replaced_like_all_others(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    def sizes() -> dict[str, bytes]:
        return {name: content for name, content in contents(tmp_path / "out").items() if name.startswith("sizes/")}

    first = ResultStore(tmp_path / "out", IDENTITY, [SizeWriter()])
    for source in sources:
        first.add(Record.of(source.name, source.stamp(), predict(source.name)))
    assert len(sizes()) == len(sources)
    (tmp_path / "out" / "sizes" / ".eigenseg-killed.tmp").write_bytes(b"")
    other = ResultStore(tmp_path / "out", IDENTITY, [SizeWriter("px")])  # files of other settings are written again
    assert sizes() == {}
    assert all(other.unwritten(source) for source in sources)
    for source in sources:
        other.fill(source)
    assert {content[-2:] for content in sizes().values()} == {b"px"}
    other.fail(Record.failure(sources[0].name, "image", None, "broken"))
    assert len(sizes()) == len(sources) - 1
    ResultStore(tmp_path / "out", {"method": "other"}, [SizeWriter("px")], resume=False)
    assert sizes() == {}
    assert not (tmp_path / "out" / "sizes").exists()
