"""Generated clips and images as a dataset: files are drawn when asked for, and the commands read them like any other."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from eigenseg.data import read_image, write_label_map
from eigenseg.data.datasets import MovingShapes, ObjectAnnotation, VideoAnnotation
from eigenseg.data.scenes import OUTLINES, SceneSettings, draw_clip, plan_scene


def dataset(root: Path, **settings: object) -> MovingShapes:
    return MovingShapes(**{"count": 3, "length": 4, "size": (32, 48), "root": root, **settings})  # type: ignore[arg-type]


def pixels(made: MovingShapes, index: int) -> np.ndarray:
    return np.stack([read_image(source.path) for source in made.images(index)])


def draw_all(root: Path) -> list[tuple[int, int]]:
    """Stamps of all files after one process asked for them."""
    made = dataset(root, count=6)
    stamps = [source.stamp() for i in range(6) for source in made.images(i)]
    return [tuple(stamp) for stamp in stamps if stamp]  # type: ignore[misc]


def test_files_hold_the_clip_and_annotations_its_labels(tmp_path: Path) -> None:
    made = dataset(tmp_path, seed=7)
    frames, labels = draw_clip(1, SceneSettings(length=4, size=(32, 48), seed=7))
    np.testing.assert_array_equal(pixels(made, 1), frames)
    annotation = made.annotation(1)
    assert isinstance(annotation, VideoAnnotation)
    np.testing.assert_array_equal(annotation.labels, labels)
    assert annotation.frames == tuple(source.name for source in made.images(1))


def test_objects_of_an_image_have_the_masks_boxes_and_classes_of_its_shapes(tmp_path: Path) -> None:
    made = dataset(tmp_path, length=1, count=20, objects=(8, 12))
    assert made.kind == "objects"
    hidden = 0
    for i in range(20):
        _, (labels,) = draw_clip(i, made.settings)
        annotation, shapes = made.annotation(i), plan_scene(i, made.settings).objects
        assert isinstance(annotation, ObjectAnnotation)
        visible = [k for k in range(1, len(shapes) + 1) if (labels == k).any()]
        hidden += len(shapes) - len(visible)
        assert [OUTLINES[label] for label in annotation.labels] == [shapes[k - 1].outline.kind for k in visible]
        for k, box, area, mask in zip(visible, annotation.boxes, annotation.areas, annotation.masks or (), strict=True):
            np.testing.assert_array_equal(mask, labels == k)
            rows, columns = np.nonzero(labels == k)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert area == len(rows)
    assert hidden > 0  # a hidden object is met


def test_an_item_does_not_depend_on_the_count(tmp_path: Path) -> None:
    few, many = dataset(tmp_path / "few", count=2), dataset(tmp_path / "many", count=9)
    assert many.items[:2] == few.items
    np.testing.assert_array_equal(pixels(many, 1), pixels(few, 1))


def test_seeds_are_disjoint_and_have_folders_of_their_own(tmp_path: Path) -> None:
    train, held_out = (dataset(tmp_path, length=1, count=30, seed=seed) for seed in (0, 1))
    images = {pixels(made, i).tobytes() for made in (train, held_out) for i in range(30)}
    assert len(images) == 60
    np.testing.assert_array_equal(pixels(train, 5)[0], draw_clip(5, train.settings)[0][0])


def test_every_setting_that_changes_pixels_has_a_folder_of_its_own(tmp_path: Path) -> None:
    changes: list[dict[str, object]] = [
        {},
        {"length": 5},
        {"size": (48, 32)},
        {"objects": (1, 2)},
        {"radius": (0.1, 0.3)},
        {"contrast": 0.9},
        {"clutter": 3},
        {"seed": 2},
    ]
    assert len({dataset(tmp_path, **change).images(0)[0].path for change in changes}) == len(changes)


def test_drawn_files_stay_and_lost_ones_come_back(tmp_path: Path) -> None:
    made = dataset(tmp_path)
    before = [source.stamp() for source in made.images(0)]
    lost = made.images(0)[2].path
    content = lost.read_bytes()
    lost.unlink()
    after = [source.stamp() for source in dataset(tmp_path).images(0)]
    assert lost.read_bytes() == content
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False, True]


def test_several_processes_draw_into_one_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        stamps = pool.map(draw_all, [tmp_path] * 2, chunksize=1)
    assert [len(one) for one in stamps] == [24, 24]
    made = dataset(tmp_path, count=6)
    for i in range(6):
        np.testing.assert_array_equal(pixels(made, i), draw_clip(i, made.settings)[0])
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_default_folder_is_below_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = MovingShapes(count=1, length=1, size=(16, 16))
    assert not (tmp_path / "cache").exists()  # nothing is drawn before it is asked for
    (source,) = made.images(0)
    assert source.path.is_relative_to(tmp_path / "cache" / "eigenseg" / "moving_shapes")
    assert source.path.is_file()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert MovingShapes().root == tmp_path / "home" / ".cache" / "eigenseg" / "moving_shapes"


def test_a_wrong_count_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count must be an integer of at least 1, got 0"):
        dataset(tmp_path, count=0)


TINY = ("dataset=moving_shapes", "dataset.root=drawn", "dataset.count=4", "dataset.size=[48,64]", "dataset.length=3")
FAST = ("backbone=color_texture", "runtime.device=cpu", "runtime.processes=1")


def test_clips_go_through_extract_and_evaluate(run: Run, tmp_path: Path) -> None:
    code, out, err = run("extract", *TINY, *FAST, "output.dir=masks", "output.overlays=false")
    assert code == 0, err
    assert "4 clips, 12 frames" in out
    assert len(list((tmp_path / "masks" / "labels").rglob("*.png"))) == 12
    for i, item in enumerate(MovingShapes(count=4, length=3, size=(48, 64), root=tmp_path).items):
        for t, label_map in enumerate(draw_clip(i, SceneSettings(length=3, size=(48, 64)))[1]):
            write_label_map(tmp_path / "exact" / item / f"{t:05d}.png", label_map)
    scores = {}
    for predictions in ("masks", "exact"):
        code, _, err = run("evaluate", *TINY, f"predictions={predictions}", "output.dir=scores", "runtime.processes=1")
        assert code == 0, err
        result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
        assert list(result["items"]) == ["00000", "00001", "00002", "00003"]
        scores[predictions] = result["metrics"][result["main"]]
    assert scores["exact"] == 1
    assert 0.02 < scores["masks"] < 0.9


def test_images_go_through_evaluate_and_need_a_metric_of_images(run: Run, tmp_path: Path) -> None:
    images = (*TINY[:-1], "dataset.length=1", *FAST, "output.dir=scores")
    code, _, err = run("evaluate", *images)
    assert code == 2
    assert "has annotations of kind 'objects', DavisScore scores 'video'; choose another evaluation" in err
    code, _, err = run("evaluate", *images, "evaluation=coco_masks")
    assert code == 0, err
    result = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert result["scored"] == "4 images"
    assert 0 < result["metrics"]["AR100"] < 0.9
