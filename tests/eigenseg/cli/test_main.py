"""The command line writes what the API finds, says in one sentence what is wrong, and loses nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run, check_one_error
from PIL import Image
from pycocotools.coco import COCO

from eigenseg import Predictor, __version__
from eigenseg.cli.main import main
from eigenseg.data import find_images
from eigenseg.data.files import LOCK_FILE, exclusive
from eigenseg.discovery.backbones.weights import load_vit
from eigenseg.segment.found.head import random_head


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of a bright disc in various formats and folders."""
    folder = tmp_path / "photos"
    for i, name in enumerate(["a.png", "b.jpg", "sub/a.png", "sub/c (1).jpg", "sub/deep/d.webp"]):
        rows, columns = np.indices((90, 120))
        disc = (rows - 45) ** 2 + (columns - 40 - 8 * i) ** 2 < 20**2
        noise = np.random.default_rng(i).integers(0, 30, (90, 120, 3))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.where(disc[..., None], (210, 60, 30), (20, 60, 120)) + noise).astype(np.uint8)).save(path)
    return folder


def extract(run: Run, source: object, *more: str) -> tuple[int, str, str]:
    return run("extract", f"input={source}", "backbone=color_texture", "preprocess.resize=90", "output.dir=out", *more)


def written(folder: Path) -> dict[str, bytes]:
    """All files but those that hold times."""
    names = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.jsonl", "run.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_every_image_gets_masks_labels_overlay_and_record(run: Run, photos: Path, tmp_path: Path) -> None:
    code, out, _ = extract(run, photos)
    assert code == 0
    assert "5 images, 5 instances" in out
    assert f"look at {Path('out', 'overlays')}" in out
    names = ["a.png", "b.jpg", "sub/a.png", "sub/c (1).jpg", "sub/deep/d.webp"]
    coco = COCO(str(tmp_path / "out" / "instances.json"))
    assert [image["file_name"] for image in coco.dataset["images"]] == names
    predictor = Predictor.from_config(
        "tokencut", backbone="color_texture", device="cpu", overrides=["preprocess.resize=90"]
    )
    for image in coco.dataset["images"]:
        instances = predictor(photos / image["file_name"])
        (annotation,) = coco.loadAnns(coco.getAnnIds(image["id"]))
        np.testing.assert_array_equal(coco.annToMask(annotation), instances.masks[0])
        assert annotation["score"] == pytest.approx(float(instances.scores[0]))
        label_map = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{image['file_name']}.png"))
        np.testing.assert_array_equal(label_map, instances.label_map())
        assert Image.open(tmp_path / "out" / "overlays" / f"{image['file_name']}.jpg").size == (120, 90)
    kept = sorted((r["name"], r["status"], r["count"]) for r in records(tmp_path / "out"))  # written by several threads
    assert kept == [(name, "done", 1) for name in names]


ONE_DIRECTION = """\
import torch
from eigenseg.data import FeatureGrid, Preprocess

class OneDirection:
    \"\"\"A backbone whose tokens all point nearly the same way.\"\"\"
    patch_size, mean, std = 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    preprocess, has_attention = Preprocess(), False
    def __init__(self, facet):
        self.facet = facet
    def __call__(self, pixels, geometries, attention=False):
        means = torch.nn.functional.avg_pool2d(pixels, 8)
        return FeatureGrid(1 + 0.01 * means.flatten(2).mT, tuple(means.shape[2:]), self.facet, tuple(geometries))
    def to(self, device):
        return self
    def provenance(self):
        return {"weights": {"source": "none"}}
"""


@pytest.mark.parametrize(
    ("settings", "tries"),
    [
        ([], "backbone.facet=token"),
        (["backbone.facet=token", "method.tau=0.1"], "method.tau=0.2"),
        (["backbone.facet=token", "method=lost"], "backbone.center=true"),
        (["backbone.facet=token", "method=maskcut"], "method.tau=0.25"),
        (["backbone.facet=token", "method=maskcut_reference"], "method.tau=0.25"),
        (["backbone.facet=token", "method=per_frame", "input_kind=clips"], "method.base.tau=0.3"),
    ],
)
def test_a_run_whose_tokens_all_look_alike_says_what_to_try(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], tries: str
) -> None:
    (tmp_path / "walk").mkdir()
    for t in range(2):
        pixels = np.random.default_rng(t).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "walk" / f"{t}.png")
    (tmp_path / "one_direction.py").write_text(ONE_DIRECTION)
    (tmp_path / "conf" / "backbone").mkdir(parents=True)
    (tmp_path / "conf" / "backbone" / "one.yaml").write_text("_target_: one_direction.OneDirection\nfacet: key\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = ["--config-dir", "conf", "backbone=one", "allow_targets=[one_direction]", "output.dir=out"]
    code, out, err = run("extract", "input=walk", *own, *settings)
    where = "1 of 1 clip" if "input_kind=clips" in settings else "2 of 2 images"
    assert code == 0, err
    assert f"note: no object in {where}; manifest.jsonl says why\n" in out
    assert f"note: all tokens look alike in {where}; if these hold objects, try {tries}\n" in out


def test_a_run_that_finds_objects_advises_nothing(run: Run, photos: Path) -> None:
    assert "note" not in extract(run, photos)[1]


def test_run_json_says_what_was_run(run: Run, photos: Path, tmp_path: Path) -> None:
    extract(run, photos, "method.tau=0.25")
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert content["config"]["method"]["tau"] == 0.25
    assert content["identity"]["preprocess"] == {"mode": "round", "resize": 90, "max_tokens": 16384}
    assert content["identity"]["weights"] == {"backbone": {"source": "none"}}
    assert content["versions"]["eigenseg"] == __version__


def test_optional_outputs_are_written_on_request(run: Run, photos: Path, tmp_path: Path) -> None:
    options = ["output.masks=true", "output.heatmap=true", "output.labels=false"]
    assert extract(run, photos / "a.png", *options)[0] == 0
    assert not (tmp_path / "out" / "labels").exists()
    assert Image.open(tmp_path / "out" / "overlays" / "a.png.jpg").size == (240, 90)
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png" / "000.png"))
    coco = COCO(str(tmp_path / "out" / "instances.json"))
    np.testing.assert_array_equal(mask == 255, coco.annToMask(coco.loadAnns([1])[0]))


def test_images_are_computed_again_for_arrays_that_were_not_kept_and_that_is_said(run: Run, photos: Path) -> None:
    extract(run, photos)
    code, out, _ = extract(run, photos, "output.heatmap=true")
    assert code == 0
    assert "5 images computed again for files that need arrays which were not kept; output.arrays=true keeps them" in out
    code, out, _ = extract(run, photos, "output.heatmap=true")
    assert (code, "computed again" in out) == (0, False)


def test_a_second_run_does_nothing_and_says_so(run: Run, photos: Path, tmp_path: Path) -> None:
    extract(run, photos)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    code, out, _ = extract(run, photos)
    assert code == 0
    assert "0 images, 0 instances" in out
    assert "5 already done" in out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_other_settings_in_the_same_folder_are_rejected_and_resume_false_replaces(run: Run, photos: Path) -> None:
    extract(run, photos)
    code, _, err = extract(run, photos, "method.tau=0.3")
    assert code == 2
    assert "error: out holds results of another run; choose another output.dir, or resume=false to replace them. " in err
    assert "Different: method.tau (0.2 before, 0.3 now)\n" in err
    _, _, err = extract(run, photos, "method=maskcut")
    assert "Different: method._target_ (eigenseg.discovery.TokenCut before, eigenseg.segment.maskcut.MaskCut now)" in err
    assert extract(run, photos, "method.tau=0.3", "resume=false")[0] == 0


def test_broken_images_are_named_and_the_others_come_out(run: Run, photos: Path, tmp_path: Path) -> None:
    whole = (photos / "b.jpg").read_bytes()
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "text.png").write_text("not an image")
    Image.new("RGB", (8000, 6000), (9, 200, 30)).save(photos / "huge.png", compress_level=1)
    Image.new("RGB", (1, 1)).save(photos / "dot.png")
    Image.new("RGB", (50, 60), (7, 7, 7)).save(photos / "flat.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8)).save(photos / "small.png")
    code, out, err = extract(run, photos, "preprocess.resize=0", "preprocess.mode=pad")
    assert code == 1
    assert "8 images, 5 instances" in out
    assert "4 failed" in out
    by_name = {record["name"]: record for record in records(tmp_path / "out")}
    assert "is empty (0 bytes)" in by_name["empty.jpg"]["error"]
    assert "cannot be decoded, it is truncated or damaged" in by_name["cut.jpg"]["error"]
    assert "is not an image that Pillow can read" in by_name["text.png"]["error"]
    assert "750x1000 = 750000 tokens, more than max_tokens=16384" in by_name["huge.png"]["error"]
    assert "shrink it with a smaller preprocess.resize" in by_name["huge.png"]["error"]
    for name in ("empty.jpg", "cut.jpg", "text.png", "huge.png"):
        assert f"failed: {name}: {by_name[name]['error']}" in err
        assert not (tmp_path / "out" / "labels" / f"{name}.png").exists()
    assert by_name["dot.png"]["reason"] == by_name["flat.png"]["reason"] == "no object: the image has a single color"
    assert by_name["small.png"]["reason"].endswith("enlarge it with preprocess.resize")
    assert len(json.loads((tmp_path / "out" / "instances.json").read_text())["images"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "input is missing; say what to read: input=photos/"),
        (["input=nowhere"], "no such file or folder: nowhere"),
        (["input=void"], "folder void holds no image"),
        (["input=void/*.jpg"], "pattern void/*.jpg matches no image"),
        (["input=.", "method=magic"], "unknown method 'magic'; known: "),
        (["input=.", "backbone=magic"], "unknown backbone 'magic'; known: color_texture, dino_vitb16,"),
        (["input=.", "methods=tokencut"], "unknown setting 'methods'"),
        (["input=photos", "backbone=color_texture", "method.tau=high"], "tau must be a number in [0, 1), got 'high'"),
        (["input=photos", "backbone=color_texture", "runtime.device=cuda:77"], "device cuda:77 is not available"),
        (["input=photos", "backbone=color_texture", "runtime.threads=0"], "runtime.threads must be at least 1, got 0"),
        (["input=photos", "backbone=color_texture", "preprocess.mode=zoom"], "preprocess.mode must be 'pad', 'round'"),
        (["input=photos", "backbone.weights=gone.pth"], "backbone.weights: no such file gone.pth"),
        (["photos"], "'photos' is not a setting; write key=value, such as input=photos"),
        (["--input=photos"], "unknown option --input=photos; settings are written without dashes"),
        (["input=photos", "backbone=color_texture", "output.dir=photos/../photos"], "output.dir is the input folder"),
        (
            ["input=photos", "backbone=color_texture", "runtime.batch_size=0"],
            "batch_size must be an integer of at least 1, got 0",
        ),
        # Before the backbone, whose weights are not here.
        (["input=photos", "runtime.buffer_mb=0"], "buffer_mb must be an integer of at least 1, got 0"),
        (
            ["input=photos", "preprocess.resize=big"],
            "preprocess.resize=big: Value 'big' of type 'str' could not be converted",
        ),
        (
            ["input=photos", "backbone=color_texture", "runtime.device=meta"],
            "device meta is not available; available are",
        ),
        (["input=photos", "backbone=color_texture", "output.dir=photos/a.png"], "a file of that name is in the way"),
        (["input=photos", "backbone=color_texture", "output.dir=photos/a.png/x"], "a part of the path is a file"),
    ],
)
def test_wrong_arguments_give_one_sentence_and_write_nothing(
    run: Run, photos: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "void").mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("extract", *arguments)
    check_one_error(code, out, err, message)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("code", "why"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the file system is read-only")]
)
def test_a_disk_that_takes_no_more_stops_the_run_and_loses_nothing(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    extract(run, photos)
    undisturbed = written(tmp_path / "out")
    subprocess.run(["rm", "-r", tmp_path / "out"], check=True)
    replace, calls = os.replace, []

    def full(source: str, target: Path) -> None:
        calls.append(target)
        if len(calls) == 6:
            raise OSError(code, os.strerror(code))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    exit_code, _, err = extract(run, photos)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert exit_code == 2
    assert f"error: cannot write {Path('out')}" in err
    assert f"{why}; choose another output.dir" in err
    assert not list((tmp_path / "out").rglob("*.tmp"))
    done = len(records(tmp_path / "out"))
    assert 0 < done < 5
    assert f"{done} already done" in extract(run, photos)[1]
    assert written(tmp_path / "out") == undisturbed


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eigenseg.pipeline.ResultStore.finish", interrupt)
    code, _, err = extract(run, photos)
    assert code == 130
    assert "stopped; finished items are kept, the same command with the same output.dir resumes" in err
    assert len(records(tmp_path / "out")) == 5


def test_a_sweep_gives_every_job_its_own_folder_and_one_wrong_job_does_not_stop_it(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    code, _, err = run(
        "extract", "-m", f"input={photos}/a.png", "backbone=color_texture", "method.tau=0.1,7,0.2", "hydra.sweep.dir=sweep"
    )
    assert code == 2
    assert err.count("error: tau must be a number in [0, 1), got 7") == 1
    folders = {
        folder.name: json.loads((folder / "run.json").read_text())["config"]["method"]["tau"]
        for folder in (tmp_path / "sweep").glob("*/")
        if (folder / "run.json").exists()
    }
    assert folders == {"0_backbone=color_texture,method.tau=0.1": 0.1, "2_backbone=color_texture,method.tau=0.2": 0.2}


def test_a_sweep_into_one_folder_is_continued_by_the_same_command(run: Run, photos: Path, tmp_path: Path) -> None:
    command = ["extract", "-m", f"input={photos}/a.png", "backbone=color_texture", "method.tau=0.1,0.2", "output.dir=taus"]
    assert run(*command)[0] == 0
    assert len(list((tmp_path / "taus").glob("*/instances.json"))) == 2
    assert run(*command)[1].count("1 already done") == 2


def test_options_and_overrides_may_come_in_any_order(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text("_target_: eigenseg.discovery.TokenCut\ntau: 0.33\n")
    assert extract(run, photos / "a.png", "--config-dir", "conf", "method=mine")[0] == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["config"]["method"]["tau"] == 0.33


@pytest.mark.parametrize(
    "name", ["c (1).jpg", "ü日本.jpg", "a@b%+;|.jpg", "x,y.jpg", "it's.jpg", "${x}.jpg", "a=b.jpg", "1e3"]
)
def test_a_path_is_taken_as_it_is_typed(run: Run, photos: Path, tmp_path: Path, name: str) -> None:
    (photos / "a.png").rename(photos / name)
    code, out, err = run("extract", f"input=photos/{name}", "backbone=color_texture", f"output.dir=out of {name}")
    assert (code, err.count("error")) == (0, 0)
    assert "1 image, 1 instance," in out
    assert (tmp_path / f"out of {name}" / "labels" / f"{name}.png").is_file()


def test_a_tilde_is_the_home_folder(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("extract", "input=~/photos/a.png", "backbone=color_texture", "output.dir=~/o")[0] == 0
    assert (tmp_path / "o" / "instances.json").is_file()


TINY = ["+backbone.model_args={embed_dim:48,depth:1,num_heads:3}", "preprocess.resize=64"]


def test_weights_are_one_identity_wherever_they_lie_and_other_ones_are_refused(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for seed in range(2):
        model, _ = load_vit(
            "vit_small_patch16_224.dino", "random", model_args={"embed_dim": 48, "depth": 1, "num_heads": 3}, seed=seed
        )
        torch.save(model.state_dict(), tmp_path / f"{seed}.pth")
        torch.save(random_head(48, seed).state_dict(), tmp_path / f"head{seed}.pth")
    (tmp_path / "w.pth").write_bytes((tmp_path / "0.pth").read_bytes())
    (tmp_path / "head.pth").write_bytes((tmp_path / "head0.pth").read_bytes())
    command = ["extract", f"input={photos}/a.png", "backbone=dino_vits16", *TINY, "method=found", "method.mode=head"]
    command += ["method.head=head.pth", "output.dir=out"]
    assert run(*command, "backbone.weights=w.pth")[0] == 0
    for path in ("w.pth", "./w.pth", "~/w.pth", tmp_path / "w.pth", "0.pth"):
        code, out, err = run(*command, f"backbone.weights={path}")
        assert (code, "1 already done" in out) == (0, True), err
    (tmp_path / "w.pth").write_bytes((tmp_path / "1.pth").read_bytes())
    code, _, err = run(*command, "backbone.weights=w.pth")
    assert (code, "Different: backbone.weights.sha256 (" in err) == (2, True)
    (tmp_path / "head.pth").write_bytes((tmp_path / "head1.pth").read_bytes())
    code, _, err = run(*command, "backbone.weights=0.pth")
    assert (code, "Different: method.head.sha256 (" in err) == (2, True)


def test_results_inside_the_input_folder_are_not_read_again(run: Run, photos: Path) -> None:
    for _ in range(2):
        code, out, _ = extract(run, photos, f"output.dir={photos}/out")
    assert code == 0
    assert "0 images, 0 instances, 0 failed, 5 already done" in out


def test_a_run_into_a_folder_that_another_one_holds_is_rejected(run: Run, photos: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "out"):
        code, _, err = extract(run, photos)
    assert code == 2
    assert "error: another run is writing to out" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK_FILE]


def test_help_version_and_unknown_commands(run: Run) -> None:
    assert run()[0] == 2
    assert "eigenseg extract input=photos/" in run("--help")[1]
    assert run("--version")[:2] == run("extract", "--version")[:2] == (0, f"eigenseg {__version__}\n")
    assert (
        "unknown command 'extrakt'; did you mean extract? known: extract, evaluate, train, collect, export"
        in run("extrakt")[2]
    )


def test_help_of_extract_lists_the_choices(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "--help"]) == 0
    out = capfd.readouterr().out
    assert "backbone: color_texture, dino_vitb16" in out
    assert "maskcut, maskcut_parts, maskcut_reference" in out


def test_the_script_of_the_checkout_is_the_command(photos: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "extract.py"
    arguments = [f"input={photos}/a.png", "backbone=color_texture", "output.dir=here"]
    done = subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "1 image, 1 instance," in done.stdout
    assert (tmp_path / "here" / "overlays" / "a.png.jpg").is_file()


STALLED = """
import os, sys
from eigenseg.cli.main import main
from eigenseg.data import images

genuine = images._open
def open_(source):
    if "stalled" in str(source):
        print("reading", flush=True)
        os.open("pipe", os.O_RDONLY)  # nobody writes, so the system never returns
    return genuine(source)
images._open = open_
sys.exit(main(sys.argv[1:]))
"""


def test_the_first_ctrl_c_ends_the_run_though_a_reader_hangs(photos: Path, tmp_path: Path) -> None:
    (photos / "stalled.png").write_bytes((photos / "a.png").read_bytes())
    os.mkfifo(tmp_path / "pipe")
    arguments = ["extract", "input=photos", "output.dir=out", "backbone=color_texture", "runtime.batch_size=1"]
    with subprocess.Popen(
        [sys.executable, "-c", STALLED, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "stopped; finished items are kept" in err
    assert "Traceback" not in err


INTERRUPTED_IMPORT = """
import os, signal, sys, time

module = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
            except KeyboardInterrupt:  # compiled modules make another error of it, or abort
                raise SystemError("initialization failed")

sys.meta_path.insert(0, Interrupt())
from eigenseg.cli.main import main
main()
"""


@pytest.mark.parametrize("module", ["hydra", "torch", "timm.models"])
def test_ctrl_c_during_the_imports_is_as_quiet_as_later(photos: Path, tmp_path: Path, module: str) -> None:
    arguments = ["extract", f"input={photos}", "backbone=dino_vits16", "backbone.weights=random", "output.dir=out"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, module, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\nstopped; finished items are kept, the same command with the same output.dir resumes\n"
    assert not (tmp_path / "out").exists()


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "eigenseg", "extract", *arguments], cwd=folder)


@pytest.mark.slow
def test_killed_midway_and_rerun_equals_an_undisturbed_run(test_data: Path, tmp_path: Path) -> None:
    arguments = [f"input={test_data / 'photos'}", "backbone=color_texture", "runtime.batch_size=2", "output.masks=true"]
    assert start([*arguments, "output.dir=whole"], tmp_path).wait() == 0
    process, manifest = start([*arguments, "output.dir=out"], tmp_path), tmp_path / "out" / "manifest.jsonl"
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 5):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 5 <= len(records(tmp_path / "out")) < len(find_images(test_data / "photos")) == 24
    assert not (tmp_path / "out" / "instances.json").exists()
    assert start([*arguments, "output.dir=out"], tmp_path).wait() == 0
    assert written(tmp_path / "out") == written(tmp_path / "whole")
