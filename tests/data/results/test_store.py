"""A result folder of a run that was interrupted and resumed equals that of an uninterrupted run, byte for byte."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from eigenseg.data import Geometry, ImageSource, Instances, find_images, read_image
from eigenseg.data.results import store as module
from eigenseg.data.results.overlay import draw_heatmap, draw_overlay
from eigenseg.data.results.store import ResultFolder

RUN = {"identity": {"method": {"name": "tokencut", "tau": 0.2}, "input": "photos"}, "versions": {"eigenseg": "0"}}
# pycocotools' own result type does not know NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

PHOTOS = ("rex.jpg", "rex.png", "b/rex.jpg", "a/deep/fog.png")
EMPTY = "a/deep/fog.png"
EVERYTHING = {"labels": True, "overlays": True, "masks": True, "heatmap": True}


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    for seed, name in enumerate(PHOTOS):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return find_images(tmp_path / "photos")


def predict(source: ImageSource) -> Instances:
    """The result of a method: two objects whose scores depend on the image's name, or none."""
    if source.name == EMPTY:
        return Instances.empty((24, 32), "fog everywhere")
    masks = np.zeros((2, 24, 32), dtype=bool)
    masks[0, 2:12, 3:20] = True
    masks[1, 8:20, 10:30] = True
    scores = np.array([0.25, 0.5 + len(source.name) / 100])
    extras = {"seed": [3, 4], "eigenvector": np.random.default_rng(len(source.name)).normal(size=(2, 3, 4))}
    geometry = Geometry((24, 32), (24, 32), (24, 32), 8)
    boxes = np.array([[3, 2, 20, 12], [10, 8, 30, 20]])
    return Instances(masks, scores, boxes, (24, 32), extras=extras, metadata={"geometry": geometry})


def run(root: Path, sources: list[ImageSource], limit: int | None = None, **options: Any) -> ResultFolder:
    """Process unfinished images, like the extraction loop, and stop silently after ``limit`` images."""
    folder = ResultFolder(root, RUN, **{**EVERYTHING, **options})
    for source in [source for source in sources if not folder.holds(source)][:limit]:
        folder.add(source, read_image(source.path), predict(source), milliseconds=1.0)
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def uninterrupted(tmp_path: Path, sources: list[ImageSource]) -> dict[str, bytes]:
    run(tmp_path / "uninterrupted", sources).finish(sources)
    return contents(tmp_path / "uninterrupted")


def test_files_mirror_the_images_path_and_suffix(uninterrupted: dict[str, bytes]) -> None:
    expected = {"instances.json", "manifest.jsonl", "run.json"}
    for name in PHOTOS:
        expected |= {f"labels/{name}.png", f"overlays/{name}.jpg"}
        expected |= set() if name == EMPTY else {f"masks/{name}/000.png", f"masks/{name}/001.png"}
    assert set(uninterrupted) == expected


@pytest.mark.parametrize("done", range(len(PHOTOS) + 1))
def test_interrupted_after_any_image_and_resumed_equals_uninterrupted(
    done: int, tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes]
) -> None:
    run(tmp_path / "out", sources, limit=done)
    continued = ResultFolder(tmp_path / "out", RUN)
    assert [continued.holds(source) for source in sources] == [True] * done + [False] * (len(PHOTOS) - done)
    run(tmp_path / "out", sources).finish(sources)
    assert contents(tmp_path / "out") == uninterrupted


@pytest.mark.parametrize("step", ["label", "mask", "second mask", "overlay", "record"])
def test_an_image_with_missing_files_is_not_recorded_and_processed_again(
    step: str, tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, genuine = tmp_path / "out", module.write_image
    run(root, sources, limit=2)
    before = (root / "manifest.jsonl").read_bytes()
    calls = iter(["label", "mask", "second mask", "overlay"])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def write_or_die(*arguments: Any) -> None:
        if next(calls) == step:
            killed()
        genuine(*arguments)

    monkeypatch.setattr(module, "write_image", write_or_die)
    if step == "record":
        monkeypatch.setattr(module.ResultLog, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        run(root, sources, limit=1)
    monkeypatch.undo()
    assert (root / "manifest.jsonl").read_bytes() == before
    assert not ResultFolder(root, RUN).holds(sources[2])
    run(root, sources).finish(sources)
    assert contents(root) == uninterrupted


def test_the_record_is_written_after_all_other_files(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, genuine = tmp_path / "out", module.ResultLog.append

    def append(manifest: Any, record: dict[str, Any]) -> None:
        mine = [name for name in uninterrupted if f"/{record['image']}" in name]
        assert mine
        assert {name: contents(root).get(name) for name in mine} == {name: uninterrupted[name] for name in mine}
        genuine(manifest, record)

    monkeypatch.setattr(module.ResultLog, "append", append)
    assert len(run(root, sources).log.records) == len(PHOTOS)


def test_a_changed_image_is_processed_again_and_an_unchanged_one_is_not(tmp_path: Path, sources: list[ImageSource]) -> None:
    folder = run(tmp_path / "out", sources)
    assert all(folder.holds(source) for source in sources)
    status = sources[0].path.stat()
    os.utime(sources[0].path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    times = sources[1].path.stat()
    sources[1].path.write_bytes(sources[1].path.read_bytes() + b"\0")
    os.utime(sources[1].path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [folder.holds(source) for source in sources] == [False, False, True, True]
    assert [ResultFolder(tmp_path / "out", RUN).holds(source) for source in sources] == [False, False, True, True]
    assert all(run(tmp_path / "out", sources).holds(source) for source in sources)


def test_a_failure_is_recorded_excluded_from_the_results_and_retried(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes]
) -> None:
    folder = run(tmp_path / "out", sources, limit=1)
    folder.add_failure(sources[1], "it is truncated")
    assert not folder.holds(sources[1])
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[1]) == {
        "image": sources[1].name, "status": "failed", "error": "it is truncated",
    }  # fmt: skip
    assert [image["file_name"] for image in json.loads(folder.finish(sources).read_text())["images"]] == [sources[0].name]
    finished = run(tmp_path / "out", sources).finish(sources)
    assert finished.read_bytes() == uninterrupted["instances.json"]


def test_results_of_another_identity_are_rejected_and_only_what_differs_is_named(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    before = contents(run(tmp_path / "out", sources, limit=1).root)
    other = {**RUN, "identity": {"method": {"name": "tokencut", "tau": 0.3}, "input": "photos", "seed": 1}}
    named = r"method\.tau \(0\.2 before, 0\.3 now\), seed \(absent before, 1 now\)"
    with pytest.raises(ValueError, match=rf"/out holds .*output\.dir, or resume=false .* Different: {named}$"):
        ResultFolder(tmp_path / "out", other)
    assert contents(tmp_path / "out") == before


def test_values_outside_the_identity_may_change(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, limit=1)
    newer = ResultFolder(tmp_path / "out", {**RUN, "versions": {"eigenseg": "1"}})
    assert newer.holds(sources[0])
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == RUN


def test_a_folder_without_records_accepts_any_identity(tmp_path: Path) -> None:
    other = {"identity": {"method": "maskcut"}}
    ResultFolder(tmp_path / "out", RUN)
    ResultFolder(tmp_path / "out", other)
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == other


def test_without_resume_the_records_start_empty_with_the_new_identity(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources)
    other = {"identity": {"method": "maskcut"}}
    folder = ResultFolder(tmp_path / "out", other, resume=False)
    assert not any(folder.holds(source) for source in sources)
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == other
    assert json.loads(folder.finish(sources).read_text())["images"] == []
    assert not any(ResultFolder(tmp_path / "out", other).holds(source) for source in sources)


def test_finishing_again_changes_neither_a_byte_nor_the_time(tmp_path: Path, sources: list[ImageSource]) -> None:
    path = run(tmp_path / "out", sources, limit=3).finish(sources)
    content = path.read_bytes()
    os.utime(path, ns=(1, 1))
    assert ResultFolder(tmp_path / "out", RUN).finish(sources) == path
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
        instances = predict(next(source for source in sources if source.name == image["file_name"]))
        annotations = annotation.loadAnns(annotation.getAnnIds(imgIds=image["id"]))
        assert [one["id"] for one in annotations] == [next(expected) for _ in instances]
        for one, mask in zip(annotations, np.asarray(instances.masks), strict=True):
            np.testing.assert_array_equal(annotation.annToMask(one), mask)
    assert [category["name"] for category in annotation.loadCats(annotation.getCatIds())] == ["fg"]


@pytest.mark.parametrize(("count", "mode"), [(255, "L"), (256, "I;16"), (300, "I;16")])
def test_label_images_hold_every_number_and_use_16_bits_only_above_255(
    count: int, mode: str, tmp_path: Path, sources: list[ImageSource]
) -> None:
    masks = np.eye(24 * 32, dtype=bool)[:count].reshape(-1, 24, 32)
    instances = Instances(masks, np.ones(count), np.zeros((count, 4)), (24, 32))
    folder = ResultFolder(tmp_path / "out", RUN, overlays=False)
    folder.add(sources[0], read_image(sources[0].path), instances, 1.0)
    with Image.open(tmp_path / "out" / "labels" / f"{sources[0].name}.png") as image:
        assert image.mode == mode
        labels = np.asarray(image)
    np.testing.assert_array_equal(labels.ravel(), [*range(1, count + 1), *[0] * (24 * 32 - count)])


def test_written_images_show_the_instances(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes]
) -> None:
    root = tmp_path / "uninterrupted"
    for source in sources:
        instances, image = predict(source), read_image(source.path)
        np.testing.assert_array_equal(read_image(root / "labels" / f"{source.name}.png")[..., 0], instances.label_map())
        for i, mask in enumerate(np.asarray(instances.masks)):
            single = np.asarray(Image.open(root / "masks" / source.name / f"{i:03d}.png"))
            np.testing.assert_array_equal(single, np.where(mask, 255, 0).astype(np.uint8), strict=True)
        overlay = read_image(root / "overlays" / f"{source.name}.jpg").astype(float)
        expected = np.concatenate([draw_overlay(image, instances), draw_heatmap(image, instances)], axis=1)
        assert overlay.shape == expected.shape
        halves = [np.corrcoef(overlay[:, h].ravel(), expected[:, h].ravel())[0, 1] for h in (slice(32), slice(32, 64))]
        assert min(halves) > 0.8


def test_only_the_requested_images_are_written(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, labels=False, overlays=False, masks=False)
    assert set(contents(tmp_path / "out")) == {"manifest.jsonl", "run.json"}


def test_a_record_holds_count_size_and_reason(tmp_path: Path, sources: list[ImageSource]) -> None:
    records = run(tmp_path / "out", sources).log.records
    assert {name: record["instances"] for name, record in records.items()} == {n: 0 if n == EMPTY else 2 for n in PHOTOS}
    assert {name: record.get("reason") for name, record in records.items() if "reason" in record} == {
        EMPTY: "fog everywhere"
    }
    assert all(record["size"] == [24, 32] for record in records.values())


def test_an_image_processed_again_with_fewer_objects_leaves_no_old_masks(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    folder = run(tmp_path / "out", sources)
    folder.add(sources[-1], read_image(sources[-1].path), predict(sources[-1])[:1], 1.0)
    assert [path.name for path in (tmp_path / "out" / "masks" / sources[-1].name).iterdir()] == ["000.png"]


def test_without_resume_the_files_of_all_records_are_removed(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources).finish(sources)
    (tmp_path / "out" / "labels" / "mine.png").write_text("not written by eigenseg")
    ResultFolder(tmp_path / "out", RUN, resume=False)
    assert contents(tmp_path / "out").keys() == {"run.json", "labels/mine.png"}


def test_an_image_whose_files_were_deleted_is_not_held(
    tmp_path: Path, sources: list[ImageSource], uninterrupted: dict[str, bytes]
) -> None:
    for kind in ("labels", "overlays", "masks"):
        folder = run(tmp_path / "out", sources)
        lost = next(path for path in (tmp_path / "out" / kind).rglob("*.*g") if path.is_file())
        lost.unlink()
        assert [source for source in sources if not folder.holds(source)]
        run(tmp_path / "out", sources).finish(sources)
        assert lost.read_bytes() == uninterrupted[lost.relative_to(tmp_path / "out").as_posix()]


def test_a_failure_removes_the_results_of_an_earlier_version_of_the_image(
    tmp_path: Path, sources: list[ImageSource]
) -> None:
    folder = run(tmp_path / "out", sources)
    folder.add_failure(sources[0], "it is truncated")
    assert not [path for path in contents(tmp_path / "out") if sources[0].name in path]
    assert [record["error"] for record in folder.failures(sources)] == ["it is truncated"]


def test_images_removed_from_the_input_are_removed_from_the_dataset(tmp_path: Path, sources: list[ImageSource]) -> None:
    folder = run(tmp_path / "out", sources)
    folder.add_failure(sources[0], "gone")
    content = json.loads(folder.finish(sources[2:]).read_text())
    assert [image["file_name"] for image in content["images"]] == [source.name for source in sources[2:]]
    assert folder.failures(sources[2:]) == []


def test_a_folder_with_only_failures_may_be_used_with_other_settings(tmp_path: Path, sources: list[ImageSource]) -> None:
    ResultFolder(tmp_path / "out", RUN).add_failure(sources[0], "broken")
    other = ResultFolder(tmp_path / "out", {"identity": {"method": "other"}})
    assert other.log.records == {}
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == {"identity": {"method": "other"}}


def test_a_setting_that_is_new_and_none_is_named(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, limit=1)
    with pytest.raises(ValueError, match=r"Different: resize \(absent before, None now\)"):
        ResultFolder(tmp_path / "out", {"identity": {**RUN["identity"], "resize": None}})


def test_an_identity_is_compared_as_json(tmp_path: Path, sources: list[ImageSource]) -> None:
    once = ResultFolder(tmp_path / "out", {"identity": {"scales": (1, 2)}})
    once.add(sources[0], read_image(sources[0].path), predict(sources[0]), 1.0)
    assert ResultFolder(tmp_path / "out", {"identity": {"scales": (1, 2)}}).log.records == once.log.records


def test_class_names_of_different_images_become_one_table(tmp_path: Path, sources: list[ImageSource]) -> None:
    folder = ResultFolder(tmp_path / "out", RUN, overlays=False)
    for source, names in zip(sources, [("cat", "dog"), ("dog",), ("fg", "cat")], strict=False):
        image = read_image(source.path)
        count, size = len(names), (image.shape[0], image.shape[1])
        masks, boxes = np.ones((count, *size), bool), np.zeros((count, 4), np.float32)
        scores = np.full(count, 0.5, np.float32)
        instances = Instances(masks, scores, boxes, size, labels=np.arange(count), names=names)
        folder.add(source, image, instances, 1.0)
    content = json.loads(folder.finish(sources).read_text())
    table = {category["id"]: category["name"] for category in content["categories"]}
    assert [table[annotation["category_id"]] for annotation in content["annotations"]] == ["cat", "dog", "dog", "fg", "cat"]


def test_records_without_an_identity_are_not_resumed(tmp_path: Path, sources: list[ImageSource]) -> None:
    run(tmp_path / "out", sources, limit=1)
    (tmp_path / "out" / "run.json").unlink()
    with pytest.raises(ValueError, match=r"run\.json"):
        ResultFolder(tmp_path / "out", {"identity": {"method": "maskcut"}})


def test_an_image_that_is_gone_is_not_held(tmp_path: Path, sources: list[ImageSource]) -> None:
    folder = run(tmp_path / "out", sources)
    sources[0].path.unlink()
    assert not folder.holds(sources[0])


def test_saliency_maps_are_optional_and_removed_with_their_image(tmp_path: Path) -> None:
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = ImageSource(tmp_path / "a.png", "a.png")
    soft = np.full((6, 8), 0.5, dtype=np.float32)
    instances = Instances.empty((6, 8), "nothing", saliency=soft)
    folder = ResultFolder(tmp_path / "out", {"identity": {}}, labels=False, overlays=False, saliency=True)
    folder.add(source, pixels, instances, 1.0)
    written = tmp_path / "out" / "saliency" / "a.png.png"
    assert (np.asarray(Image.open(written)) == 127).all()
    assert folder.holds(source)
    written.unlink()
    assert not folder.holds(source)
    folder.add(source, pixels, instances, 1.0)
    folder.add_failure(source, "gone")
    assert not written.exists()
