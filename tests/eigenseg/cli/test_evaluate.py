"""``eigenseg evaluate`` runs a method or reads predictions, writes numbers that can be traced to items, and a page."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, check_one_error
from PIL import Image
from pycocotools.coco import COCO

from eigenseg import Predictor
from eigenseg.cli.main import main
from eigenseg.data.datasets import ObjectAnnotation, SaliencyFolder
from eigenseg.data.detections import Detections
from eigenseg.discovery.metrics.corloc import CorLoc
from eigenseg.segment.metrics import TokenCutSaliency

SMALL = ("backbone=color_texture", "preprocess.resize=90", "output.dir=out")


@pytest.fixture
def run(run: Run) -> Run:
    """``eigenseg evaluate`` in an empty folder: exit code, standard output, standard error."""
    return partial(run, "evaluate")


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """Four images of a disc, their masks, their boxes in PASCAL VOC's form."""
    root, boxes = tmp_path / "discs", []
    for i in range(4):
        rows, columns = np.indices((90, 120))
        disc = (rows - 45) ** 2 + (columns - 40 - 8 * i) ** 2 < 20**2
        noise = np.random.default_rng(i).integers(0, 30, (90, 120, 3))
        image = (np.where(disc[..., None], (210, 60, 30), (20, 60, 120)) + noise).astype(np.uint8)
        for folder, pixels in (("JPEGImages", image), ("masks", disc.astype(np.uint8) * 255)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{i}.{'jpg' if folder == 'JPEGImages' else 'png'}")
        boxes.append((21 + 8 * i, 26, 60 + 8 * i, 65))  # 1-based, both ends inside
        corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(["xmin", "ymin", "xmax", "ymax"], boxes[-1], strict=True))
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{i}.xml").write_text(
            "<annotation><size><width>120</width><height>90</height></size>"
            f"<object><name>car</name><bndbox>{corners}</bndbox></object></annotation>"
        )
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("0\n1\n2\n3\n")
    return root


def saliency(discs: Path) -> list[str]:
    return ["dataset=saliency", f"dataset.images={discs}/JPEGImages", f"dataset.masks={discs}/masks"]


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def test_a_method_is_scored_as_the_api_scores_it(run: Run, discs: Path, tmp_path: Path) -> None:
    # Patches of eight pixels leave a rim around so small a disc.
    code, out, _ = run("dataset=voc2007", f"dataset.root={discs}", *SMALL, "evaluation.threshold=0.25")
    assert code == 0
    predictor = Predictor.from_config(
        "tokencut", backbone="color_texture", device="cpu", overrides=["preprocess.resize=90"]
    )
    metric = CorLoc(threshold=0.25)
    for i in range(4):
        detections = Detections.from_instances(predictor(discs / "JPEGImages" / f"{i}.jpg"))
        x0, y0 = 20 + 8 * i, 25
        metric.update(f"{i}.jpg", detections, ObjectAnnotation(np.array([[x0, y0, x0 + 40, y0 + 40]], dtype=np.float64)))
    written = result(tmp_path / "out")
    expected = metric.compute()
    assert written["metrics"]["hits"] == expected["hits"] == 4
    assert written["metrics"]["mean_best_iou"] == pytest.approx(expected["mean_best_iou"], rel=1e-6)
    assert written["items"].keys() == {"0.jpg", "1.jpg", "2.jpg", "3.jpg"}
    assert written["dataset"] == "PASCAL VOC 2007 trainval"
    assert written["source"] == "computed: method=tokencut, backbone=color_texture, solver=krylov"
    assert {name: part["class"].rpartition(".")[2] for name, part in written["parts"].items()} == {
        "backbone": "ColorTexture",
        "method": "TokenCut",
        "solver": "solve_ncut",
    }
    assert "CorLoc: highest-scoring box, IoU >= 0.25 with any object" in out
    assert re.search(r"corloc\s+│ all objects │ 100\.0000", out)


def test_predictions_are_kept_and_a_second_run_computes_none(run: Run, discs: Path, tmp_path: Path) -> None:
    run(*saliency(discs), *SMALL)
    folder = tmp_path / "out" / "predictions"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    first = result(tmp_path / "out")
    assert run(*saliency(discs), *SMALL, "evaluation=saliency_toolbox")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    second = result(tmp_path / "out")
    assert (first["tag"], second["tag"]) == ("tokencut", "toolbox")
    assert second["metrics"]["mae"] == pytest.approx(1 - first["metrics"]["accuracy"], abs=1e-12)


def test_the_folder_of_an_extract_run_can_be_scored(run: Run, discs: Path, tmp_path: Path) -> None:
    assert (
        main(["extract", f"input={discs}/JPEGImages", "backbone=color_texture", "preprocess.resize=90", "output.dir=masks"])
        == 0
    )
    assert run(*saliency(discs), "predictions=masks", "output.dir=read")[0] == 0
    run(*saliency(discs), *SMALL)
    assert result(tmp_path / "read")["metrics"] == result(tmp_path / "out")["metrics"]
    assert result(tmp_path / "read")["source"] == "predictions masks"


def test_the_folder_of_an_earlier_evaluation_can_be_scored_again(run: Run, discs: Path, tmp_path: Path) -> None:
    run(*saliency(discs), *SMALL)
    assert run(*saliency(discs), "predictions=out", "output.dir=again")[0] == 0
    assert result(tmp_path / "again")["metrics"] == result(tmp_path / "out")["metrics"]


def test_what_a_killed_evaluation_left_is_removed_by_the_next_one(run: Run, discs: Path, tmp_path: Path) -> None:
    for name in ("out/.eigenseg-1.tmp", "out/predictions/.eigenseg-2.tmp", "out/predictions/saliency/.eigenseg-3.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    assert run(*saliency(discs), *SMALL)[0] == 0
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_predictions_of_nobody_are_counted_and_named(run: Run, discs: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"0.jpg": [20, 25, 60, 65], "zzz.jpg": [0, 0, 1, 1]}))
    _, out, _ = run("dataset=voc2007", f"dataset.root={discs}", "predictions=boxes.json", "output.dir=out")
    assert "note: 1 prediction without an item, left out, such as zzz.jpg" in out
    assert "note: 3 of 4 items without a prediction, counted as empty" in out


def test_frames_that_count_as_empty_are_counted(run: Run, tmp_path: Path) -> None:
    for folder in ("DAVIS/Annotations/480p/v", "results/v"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(4):
            if folder != "results/v" or i != 2:
                Image.fromarray(np.ones((6, 8), dtype=np.uint8)).save(tmp_path / folder / f"{i:05d}.png")
    (tmp_path / "DAVIS" / "ImageSets" / "2016").mkdir(parents=True)
    (tmp_path / "DAVIS" / "ImageSets" / "2016" / "val.txt").write_text("v\n")
    arguments = ["dataset=davis2016", "dataset.root=DAVIS", "predictions=results", "output.dir=out"]
    assert "1 of 4 frames have no prediction, the first is v/00002.jpg" in run(*arguments)[2]
    code, out, _ = run(*arguments, "missing=empty")
    assert code == 0
    assert "DAVIS 2016 val, 1 video\n" in out
    assert "note: 1 frame without a prediction, counted as empty" in out
    assert result(tmp_path / "out")["metrics"]["J_mean"] == 0.5  # of the two frames between the first and the last


def test_numbers_of_items_average_to_the_number_of_the_set(run: Run, discs: Path, tmp_path: Path) -> None:
    run(*saliency(discs), *SMALL)
    written = result(tmp_path / "out")
    assert np.mean([item["iou"] for item in written["items"].values()]) == pytest.approx(written["metrics"]["iou"])
    dataset, metric = SaliencyFolder(discs / "JPEGImages", discs / "masks"), TokenCutSaliency()
    coco = COCO(str(tmp_path / "out" / "predictions" / "instances.json"))
    for i, name in enumerate(dataset.items):
        union = np.maximum.reduce([coco.annToMask(one) for one in coco.imgToAnns[i + 1]])
        metric.update(name, union * np.uint8(255), dataset.annotation(i))
    assert written["metrics"] == metric.compute()


def test_maps_and_boxes_in_another_form_are_noted(run: Run, discs: Path, tmp_path: Path) -> None:
    (tmp_path / "ones").mkdir()
    for i in range(4):
        mask = np.asarray(Image.open(discs / "masks" / f"{i}.png"))
        Image.fromarray(mask // 255).save(tmp_path / "ones" / f"{i}.png")
    _, out, _ = run(*saliency(discs), "predictions=ones", "output.dir=maps")
    assert "note: 4 of 4 maps hold 0 and 1 alone" in out
    assert result(tmp_path / "maps")["metrics"]["iou"] == 0.0
    ground_truth = [f"dataset.images={discs}/JPEGImages", "dataset.masks=ones", "evaluation=saliency_toolbox"]
    _, out, _ = run("dataset=sod", *ground_truth, f"predictions={discs}/masks", "output.dir=masks")
    assert "note: 4 of 4 annotations have no value of 26 or more" in out
    corners = [{"image_id": i, "category_id": 1, "bbox": [60 + 8 * i, 40, 100 + 5 * i, 85], "score": 1} for i in range(4)]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 90, "width": 120} for i in range(4)]
    content = {"images": images, "annotations": corners, "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "corners.json").write_text(json.dumps(content))
    _, out, _ = run("dataset=voc2007", f"dataset.root={discs}", "predictions=corners.json", "output.dir=boxes")
    assert (
        "note: 4 of 4 boxes reach beyond their images as x, y, width, height, and all lie inside as x0, y0, x1, y1" in out
    )
    page = (tmp_path / "boxes" / "report.html").read_text()
    assert "4 of 4 boxes reach beyond their images" in page
    assert "iou: IoU of the highest-scoring box with the object that it fits best." in " ".join(page.split())


def test_a_limit_takes_the_first_items_and_says_so(run: Run, discs: Path, tmp_path: Path) -> None:
    code, out, _ = run(*saliency(discs), *SMALL, "limit=2")
    assert code == 0
    assert "note: only the first 2 of 4 items" in out
    assert list(result(tmp_path / "out")["items"]) == ["0.jpg", "1.jpg"]


def test_an_image_that_fails_is_named_counts_as_empty_and_the_exit_code_says_so(
    run: Run, discs: Path, tmp_path: Path
) -> None:
    (discs / "JPEGImages" / "1.jpg").write_bytes(b"")
    code, out, err = run("dataset=voc2007", f"dataset.root={discs}", *SMALL, "evaluation.threshold=0.25")
    assert code == 1
    assert "failed: 1.jpg: " in err
    assert "note: 1 item could not be processed, counted as empty" in out
    written = result(tmp_path / "out")
    assert written["metrics"]["images"] == 4
    assert written["metrics"]["hits"] == 3
    assert written["items"]["1.jpg"] == {"iou": 0.0, "hit": 0.0}


def test_a_papers_number_stands_beside_ours(run: Run, discs: Path, tmp_path: Path) -> None:
    boxes = {f"{i}.jpg": [20 + 8 * i, 25, 60 + 8 * i, 65] for i in range(3)}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    arguments = ["experiment=tokencut_voc07", f"dataset.root={discs}", "predictions=boxes.json", "output.dir=out"]
    code, out, _ = run(*arguments)
    assert code == 0
    assert re.search(r"corloc\s+│ all objects │ 75\.0000 │\s+68\.8", out)
    assert "paper: tokencut with dino_vits16, the authors' repository, YangtaoWANG95/TokenCut" in out
    assert "note: 1 of 4 items without a prediction, counted as empty" in out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "68.8" in page


def test_no_prediction_at_all_scores_nothing(run: Run, discs: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("{}")
    code, _, _ = run("dataset=voc2007", f"dataset.root={discs}", "predictions=none.json", "output.dir=out")
    assert code == 0
    assert result(tmp_path / "out")["metrics"] == {"corloc": 0.0, "hits": 0, "images": 4, "mean_best_iou": 0.0}


def test_empty_annotation_has_no_number_and_a_note(run: Run, discs: Path, tmp_path: Path) -> None:
    for path in (discs / "Annotations").iterdir():
        path.write_text("<annotation><size><width>120</width><height>90</height></size></annotation>")
    (tmp_path / "none.json").write_text("{}")
    arguments = ["dataset=voc2007", f"dataset.root={discs}", "predictions=none.json", "output.dir=out"]
    for evaluation, number in (("corloc", "corloc"), ("coco_boxes", "AP")):
        code, out, _ = run(*arguments, f"evaluation={evaluation}")
        assert code == 0
        assert result(tmp_path / "out")["metrics"][number] is None
        assert "note: no item has an object in its annotation" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "dataset is missing; choose one, such as dataset=voc2007"),
        (["dataset=voc"], "unknown dataset 'voc'; did you mean voc2012? known: coco, coco20k, cub,"),
        (["dataset=voc2007"], "dataset.root is missing; say where it lies, dataset.root=PATH (the layout"),
        (
            ["dataset=voc2007", "dataset.root=gone"],
            "needs gone/Annotations, which is not there; set dataset.root, or get it from",
        ),
        (
            ["dataset=voc2007", "dataset.root=discs", "evaluation=slots"],
            "has annotations of kind 'objects', SlotScores scores",
        ),
        (["dataset=voc2007", "dataset.root=discs", "limit=0"], "limit must be at least 1, got 0"),
        (["dataset=voc2007", "dataset.root=discs", "predictions=gone"], "predictions: no such file or folder gone"),
        (["dataset=voc2007", "dataset.root=discs", "predictions=foreign.json"], "no prediction matches PASCAL VOC 2007"),
        (["dataset=voc2007", "dataset.root=discs", "evaluation.threshold=2"], "threshold must lie in (0, 1], got 2"),
        (["dataset=voc2007", "dataset.root=discs", "missing=skip"], "missing must be 'error' or 'empty', got 'skip'"),
        (["dataset=voc2007", "dataset.root=discs", "tau=1"], "unknown setting 'tau'; eigenseg evaluate --help"),
        (
            ["dataset=voc2007", "dataset.root=discs", "evaluation._target_=os.system"],
            "evaluation._target_=os.system is outside",
        ),
        (["dataset=voc2007", "dataset.root=discs", "dataset._target_=os.system"], "dataset._target_=os.system is outside"),
        (
            ["dataset=voc2007", "dataset.root=discs", "predictions=foreign.json", "runtime.processes=0"],
            "processes must be at least 1, got 0",
        ),
    ],
)
def test_wrong_arguments_give_one_sentence_and_write_nothing(
    run: Run, discs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    names = ["0.jpg"] if "runtime.processes=0" in arguments else ["x.jpg"]
    (tmp_path / "foreign.json").write_text(json.dumps({name: [0, 0, 1, 1] for name in names}))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*arguments, "output.dir=out")
    check_one_error(code, out, err, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_keeps_the_predictions(run: Run, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eigenseg.cli.evaluate.score_dataset", interrupt)
    code, _, err = run(*saliency(discs), *SMALL)
    assert code == 130
    assert "stopped; finished items are kept" in err
    assert len((tmp_path / "out" / "predictions" / "manifest.jsonl").read_text().splitlines()) == 4
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_extract_reads_the_images_of_a_dataset(run: Run, discs: Path, tmp_path: Path) -> None:
    assert main(["extract", "dataset=voc2007", f"dataset.root={discs}", *SMALL]) == 0
    images = json.loads((tmp_path / "out" / "instances.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_coco_and_davis_end_to_end(run: Run, test_data: Path, tmp_path: Path) -> None:
    code, _, _ = run("dataset=coco", f"dataset.root={test_data}/coco_tiny", "limit=3", *SMALL)
    assert code == 0
    assert len(result(tmp_path / "out")["items"]) == 3
    results = test_data / "coco_eval" / "instances_val2014_fakebbox100_results.json"
    arguments = [
        f"dataset.root={test_data}/coco_eval",
        f"dataset.annotations={test_data}/coco_eval/instances_val2014_100.json",
        f"predictions={results}",
    ]
    run("dataset=coco", *arguments, "evaluation=coco_boxes", "evaluation.class_agnostic=false", "output.dir=fake")
    assert result(tmp_path / "fake")["metrics"]["AP"] == pytest.approx(0.504581, abs=1e-6)
    davis = test_data / "davis"
    semi = ["dataset=davis2017", "dataset.annotations=Annotations_unsupervised", f"dataset.root={davis}"]
    run(*semi, f"predictions={davis}/results/semi-supervised/osvos", "output.dir=osvos", "runtime.processes=2")
    items = result(tmp_path / "osvos")["items"]
    assert items["libby"]["J"] == pytest.approx(0.623026966, abs=1e-9)
    assert items["car-shadow"]["F"] == pytest.approx(0.917407183, abs=1e-9)
