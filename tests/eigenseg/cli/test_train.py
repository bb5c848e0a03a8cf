"""``eigenseg train``: a head is trained, resumed, scored, and goes straight into extract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Run, check_one_error, draw_disc
from safetensors import safe_open
from safetensors.torch import load_file

import eigenseg.training.launch

pytestmark = pytest.mark.usefixtures("one_thread")
BACKBONE = ("backbone=dino_vits16", "backbone.weights=random", "+backbone.model_args.depth=1")
TRAIN = ("train", *BACKBONE, "runtime.device=cpu", "trainer=short", "trainer.max_steps=4", "method.recipe.crop=48")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        image, mask = draw_disc(64 + 16 * i, 80, 20, seed=i)
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / "masks" / f"{i}.png"), mask.astype(np.uint8) * 255)
    return tmp_path / "photos"


def weights(name: str = "last", root: str = "outputs/train") -> bytes:
    return Path(root, "weights", f"{name}.safetensors").read_bytes()


def test_a_trained_head_goes_straight_into_extract(run: Run, photos: Path) -> None:
    code, out, err = run(*TRAIN, "input=photos")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "training FOUND on 3 images, 4 steps -> outputs/train"
    assert [line.split("  ")[0] for line in lines[1:5]] == [f"step {i}/4" for i in range(1, 5)]
    assert "seconds by stage: load" in out
    assert "wait" in out
    assert lines[-1] == "outputs/train/weights/best.safetensors, look at outputs/train/report.html"
    with safe_open("outputs/train/weights/best.safetensors", "pt") as file:
        said = file.metadata()
    expected = {"facet": "key", "patch": "16", "step": "4", "backbone": "vit_small_patch16_224.dino"}
    assert said.items() >= expected.items()
    assert json.loads(said["settings"])["method"]["recipe"]["crop"] == 48
    assert set(load_file("outputs/train/weights/best.safetensors")) == {"decoder.weight", "decoder.bias"}
    for name in ("run.json", "metrics.jsonl", "report.html", "state/last.json", "state/last.safetensors", "tensorboard"):
        assert Path("outputs/train", name).exists()
    assert b"Norm of the gradient" in Path("outputs/train/report.html").read_bytes()

    head = ("method=found", "method.mode=head", "method.head=outputs/train/weights/best.safetensors")
    code, out, err = run("extract", "input=photos", *BACKBONE, *head, "runtime.device=cpu")
    assert code == 0, err
    assert out.startswith("3 images")
    _, _, err = run("extract", "input=photos", *BACKBONE, *head, "backbone.facet=token", "output.dir=other")
    assert "trained on facet 'key', the backbone gives 'token'" in err


def test_a_run_that_was_stopped_continues_and_other_settings_are_refused(run: Run, photos: Path) -> None:
    assert run(*TRAIN, "input=photos", "output.dir=once")[0] == 0
    code, out, _ = run(*TRAIN, "input=photos", "trainer.max_seconds=1e-9")
    assert code == 0
    assert "stopped by trainer.max_seconds; the same command continues" in out
    assert "1 of 4 steps" in out
    assert run(*TRAIN, "input=photos")[0] == 0
    assert weights() == weights(root="once")
    assert "4 steps were done already" in run(*TRAIN, "input=photos")[1]
    code, out, err = run(*TRAIN, "input=photos", "optimizer.lr=0.1", "method.recipe.blur=0")
    assert code == 2
    assert "holds a training with other settings" in err
    assert "method.recipe.blur (0.5 before, 0" in err
    assert "optimizer.lr (0.05 before, 0.1 now)" in err
    assert weights() == weights(root="once")
    assert run(*TRAIN, "input=photos", "optimizer.lr=0.1", "resume=false")[0] == 0
    assert weights() != weights(root="once")


def test_weights_are_scored_during_training_as_evaluate_scores_them(run: Run, photos: Path) -> None:
    validation = ("validation=saliency", "validation.images=photos", "validation.masks=masks", "method.level=pixel")
    code, out, err = run(*TRAIN, "input=photos", *validation, "trainer.evaluate_every=2")
    assert code == 0, err
    assert out.count("evaluation  ") == 2
    found = json.loads(Path("outputs/train/run.json").read_text())["best"]
    scores = {
        line["step"]: line["evaluation"]
        for line in map(json.loads, Path("outputs/train/metrics.jsonl").read_text().splitlines())
        if "evaluation" in line
    }
    assert found["value"] == max(values[found["metric"]] for values in scores.values())
    head = ("method=found", "method.mode=head", "method.head=outputs/train/weights/last.safetensors", "method.level=pixel")
    dataset = ("dataset=saliency", "dataset.images=photos", "dataset.masks=masks")
    code, _, err = run("evaluate", *dataset, *BACKBONE, *head, "runtime.device=cpu")
    assert code == 0, err
    assert json.loads(Path("outputs/evaluate/metrics.json").read_text())["metrics"] == scores[4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "input is missing; say what to train on"),
        (("input=photos", "trainer.max_steps=0"), "trainer.max_steps must be at least 1, got 0"),
        (("input=photos", "trainer.schedule.kind=linea"), "trainer.schedule.kind must be"),
        (("input=photos", "method=tokencut"), "nothing to train"),
        (("input=photos", "optimizer.lr=-1"), "Invalid learning rate"),
        (("input=photos", "optimizer._target_=torch.nn.Linear"), "optimizer must name a class of torch.optim"),
        (("input=photos", "optimizer._target_=os.system"), "outside what a yaml may name"),
        (("input=photos", "dataset=saliency"), "both say what to train on"),
        (("input=gone",), "gone"),
        (("input=photos", "validation=voc2007"), "validation.root is missing; say where it lies"),
        (("input=photos", "optimizer=null"), "optimizer must not be null"),
    ],
)
def test_mistakes_are_one_sentence(run: Run, photos: Path, settings: tuple[str, ...], message: str) -> None:
    command = [part for part in TRAIN if "recipe" not in part or "method=tokencut" not in settings]
    check_one_error(*run(*command, *settings), message)


def test_a_backbone_without_attention_is_refused(run: Run, photos: Path) -> None:
    settings = [part for part in TRAIN if "backbone" not in part]
    _, _, err = run(*settings, "input=photos", "backbone=color_texture")
    assert "error: FOUND's training needs CLS attention, which backbone ColorTexture does not have" in err


def test_what_is_not_installed_is_named(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eigenseg.training.launch, "find_spec", lambda name: None if name == "tensorboard" else object())
    check_one_error(
        *run(*TRAIN, "input=photos"),
        "training needs tensorboard, not installed here: pip install 'eigenseg[train]'",
    )


def test_an_image_that_cannot_be_read_is_named(run: Run, photos: Path) -> None:
    (photos / "1.png").write_bytes(b"no image")
    code, _, err = run(*TRAIN, "input=photos")
    assert code == 2
    assert "1.png" in err


@pytest.mark.slow
def test_found_on_two_processes_reaches_the_losses_of_one_with_the_doubled_batch(run: Run, photos: Path) -> None:
    settings = [*TRAIN, "input=photos", "trainer.log_every=1", "runtime.threads=1"]
    environment: dict[str, Any] = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "eigenseg"]
    done = subprocess.run(
        [*torchrun, *settings, "output.dir=two", "trainer.batch_size=2"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert run(*settings, "output.dir=one", "trainer.batch_size=4")[0] == 0
    one, two = (
        [json.loads(line)["loss"] for line in Path(name, "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(two, one, rtol=1e-5)
    for name, value in load_file("one/weights/last.safetensors").items():
        np.testing.assert_allclose(load_file("two/weights/last.safetensors")[name], value, rtol=1e-4, atol=1e-5)
