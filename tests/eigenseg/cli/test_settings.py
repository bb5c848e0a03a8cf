"""Settings as people type them: paths of any characters, misspelled names, two settings that exclude each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, check_one_error, draw_disc
from PIL import Image

BACKBONE = "backbone=color_texture"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images, their masks, and their boxes in PASCAL VOC's form."""
    for i in range(2):
        image, mask = draw_disc(90, 120, 20 + 5 * i, seed=i)
        for folder, pixels in (("photos", image), ("masks", mask.astype(np.uint8) * 255), ("voc/JPEGImages", image)):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.{'jpg' if 'voc' in folder else 'png'}")
        (tmp_path / "voc" / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "voc" / "Annotations" / f"{i}.xml").write_text(
            "<annotation><size><width>120</width><height>90</height></size><object><name>car</name><bndbox><xmin>41</xmin>"
            "<ymin>26</ymin><xmax>80</xmax><ymax>65</ymax></bndbox></object></annotation>"
        )
    (tmp_path / "voc" / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "voc" / "ImageSets" / "Main" / "trainval.txt").write_text("0\n1\n")
    return tmp_path / "photos"


DATASET = ("dataset=saliency", "dataset.images=photos", "dataset.masks=masks")


def numbers(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=found", "method.mode=head", "method.head=h(1).pth"], "no such file h(1).pth"),
        (
            ["method=per_frame", "method.base=found", "method.base.mode=head", "method.base.head=~/h [1].pth"],
            "no such file /home/me/h [1].pth",
        ),
        (["backbone=dino_vits16", "backbone.weights=w {1}.pth"], "no such file w {1}.pth"),
        (["method=tokenkut"], "unknown method 'tokenkut'; did you mean tokencut? known: "),
        (["backbone=dino_vits61"], "unknown backbone 'dino_vits61'; did you mean dino_vits16? known: "),
        (["method.taw=0.3"], "unknown setting 'method.taw'; did you mean method.tau? eigenseg extract --help"),
        (["runtime.batchsize=3"], "unknown setting 'runtime.batchsize'; did you mean runtime.batch_size? eigenseg"),
        (["inputs=x"], "unknown setting 'inputs'; did you mean input? eigenseg"),
        (["--multrun"], "unknown option --multrun; did you mean --multirun? settings are"),
        (["method=per_frame", "method.base=nope"], "unknown method 'nope'; known: class_agnostic_detector"),
        (["dataset=voc2007"], "input=photos and dataset=voc2007 both say what to read; give one of them"),
        (["experiment=tokencut_voc07", "dataset=voc2012"], "input=photos and dataset=voc2012 both say what to read"),
        (["experiment=tokencut_voc07", "dataset.root=voc"], "input=photos and dataset=voc2007 both say what to read"),
        (["method=null"], "method must not be null; choose one"),
        (["-m", "postprocess=null,bilateral"], "postprocess=null cannot be one of several values of a sweep"),
        (
            ["method._target_=eigenseg.discovery.LOST"],
            "method: LOST takes no tau, eps, nearest, solver, reject_flawed, only k, padding;",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    check_one_error(*run("extract", "input=photos", BACKBONE, "output.dir=out", *arguments), message)


def test_an_image_method_is_known_for_a_base_and_a_video_method_is_not(run: Run, photos: Path) -> None:
    err = run("extract", "input=photos", "method=per_frame", "method.base=nope")[2]
    assert "maskcut" in err
    assert "per_frame" not in err
    assert "per_frame" in run("extract", "input=photos", "method=nope")[2]


@pytest.mark.parametrize(
    ("dataset", "setting", "message"),
    [
        ("coco", "dataset.annotations=a [1].json", "a [1].json"),
        ("coco20k", "dataset.image_list=~/list (1).txt", "/home/me/list (1).txt"),
    ],
)
def test_paths_of_a_dataset_are_taken_as_they_are_typed(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, setting: str, message: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (photos.parent / "voc" / "annotations").mkdir()
    (photos.parent / "voc" / "annotations" / "instances_train2014.json").write_text(
        '{"images": [], "annotations": [], "categories": []}'
    )
    check_one_error(*run("evaluate", f"dataset={dataset}", "dataset.root=voc", setting), message)


@pytest.mark.parametrize("experiment", ["", "experiment=maskcut_coco"])
def test_nothing_is_refined_with_postprocess_null(run: Run, photos: Path, tmp_path: Path, experiment: str) -> None:
    settings = [BACKBONE, "output.dir=out", "postprocess=null", *([experiment, "method=lost"] if experiment else [])]
    assert run("extract", "input=photos", *settings)[0] == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["config"]["postprocess"] is None
    if not experiment:
        assert run("evaluate", *DATASET, BACKBONE, "output.dir=ev", "postprocess=null", "evaluation=null")[0] == 2
        assert run("evaluate", *DATASET, BACKBONE, "output.dir=ev", "postprocess=null")[0] == 0


def test_input_stands_over_the_dataset_of_an_experiment_and_that_is_said(run: Run, photos: Path) -> None:
    code, out, _ = run("extract", "input=photos", "experiment=tokencut_voc07", BACKBONE, "output.dir=out")
    assert code == 0
    assert "note: input is read instead of the experiment's dataset\n" in out


VOC = ("experiment=tokencut_voc07", "dataset.root=voc", "predictions=boxes.json", "output.dir=out")


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        (
            [BACKBONE],
            "the experiment has no published number with backbone=color_texture; it has those of dino_vits16, dino_",
        ),
        (["method=lost"], "the experiment has no published number with method=lost; it has those of dino_vits16, "),
        (
            ["method.tau=0.3", "preprocess.resize=90"],
            "set otherwise than in the experiment: method.tau=0.3, preprocess.resize",
        ),
        ([], None),
        (["backbone=dino_vits8", "backbone.weights=w.pth"], None),
    ],
)
def test_why_a_papers_number_is_left_out_or_does_not_compare_is_said(
    run: Run, photos: Path, tmp_path: Path, settings: list[str], note: str | None
) -> None:
    (tmp_path / "boxes.json").write_text('{"0.jpg": [40, 25, 80, 65]}')
    code, out, _ = run("evaluate", *VOC, *settings)
    assert code == 0
    assert (note or "experiment") in out or note is None
    assert ("in the experiment" in out or "the experiment has" in out) == (note is not None)
    assert (numbers(tmp_path / "out")["paper"] is None) == (note is not None and "no published" in note)


def test_numbers_of_other_settings_that_are_replaced_are_named(run: Run, photos: Path, tmp_path: Path) -> None:
    settings = (*DATASET, BACKBONE, "output.dir=out")
    assert "replace" not in run("evaluate", *settings)[1]
    assert "replace" not in run("evaluate", *settings, "runtime.batch_size=1")[1]
    out = run("evaluate", *settings, "evaluation=saliency_toolbox")[1]
    assert (
        "note: out/metrics.json held numbers of other settings, which these replace. Different: evaluation._target_" in out
    )
    assert not any("replace" in note for note in numbers(tmp_path / "out")["notes"])
    assert "replace" not in run("evaluate", *settings, "resume=false")[1]
    (tmp_path / "out" / "metrics.json").write_text("[")
    assert run("evaluate", *settings)[0] == 0
