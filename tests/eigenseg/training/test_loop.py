"""The loop resumes exactly, stops before a number that is not finite, and gives the weights of a plain loop."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from toy_training import ADAMW, Toy, ToySamples, fit

from eigenseg.data.files import OutputError
from eigenseg.training import Schedule
from eigenseg.training.batches import Batches
from eigenseg.training.log import read_log
from eigenseg.training.loop import Evaluation

pytestmark = pytest.mark.usefixtures("one_thread")
SCRIPT = Path(__file__).parents[2] / "toy_training.py"


def weights(folder: Path, name: str = "last") -> bytes:
    return (folder / "weights" / f"{name}.safetensors").read_bytes()


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder / "metrics.jsonl") if "loss" in line]


SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
COSINE = Schedule("cosine", warmup=2)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [(ADAMW, {}), (SGD, {"ema": 0.8, "schedule": COSINE}), (ADAMW, {"accumulate": 2, "clip": 0.5})],
)
def test_a_run_in_pieces_ends_in_the_bits_of_a_run_at_once(
    tmp_path: Path, optimizer: Any, settings: dict[str, Any]
) -> None:
    fit(tmp_path / "once", optimizer=optimizer, **settings)
    for _ in range(20):  # every call stops after its first step, as max_seconds is over
        run = fit(tmp_path / "pieces", optimizer=optimizer, max_seconds=1e-9, checkpoint_every=100, **settings)
        assert run.step == run.first + 1
        if run.finished:
            break
    assert run.finished
    assert run.step == 9
    assert weights(tmp_path / "once") == weights(tmp_path / "pieces")
    assert losses(tmp_path / "once") == losses(tmp_path / "pieces")
    assert fit(tmp_path / "once", optimizer=optimizer, **settings).step == 9  # nothing is left to do


def test_more_steps_continue_a_finished_training_unless_its_schedule_knew_the_end(tmp_path: Path) -> None:
    fit(tmp_path / "longer", max_steps=9)
    fit(tmp_path / "both", max_steps=4)
    assert fit(tmp_path / "both", max_steps=9).first == 4
    assert weights(tmp_path / "longer") == weights(tmp_path / "both")
    fit(tmp_path / "cosine", max_steps=4, schedule=COSINE)
    with pytest.raises(ValueError, match=r"other settings.*trainer\.max_steps \(4 before, 9 now\)"):
        fit(tmp_path / "cosine", max_steps=9, schedule=COSINE)


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_the_weights_are_those_of_a_plain_loop(tmp_path: Path, clip: float) -> None:
    """Independent of the loop's own code: clipping, accumulation, average and schedule written out."""
    settings: dict[str, Any] = {
        "accumulate": 2,
        "clip": clip,
        "ema": 0.5,
        "schedule": Schedule("steps", every=3, gamma=0.5),
    }
    fit(tmp_path, Toy(0, normalize=False), optimizer=SGD, **settings)

    toy, samples = Toy(0, normalize=False), ToySamples()
    velocity = [torch.zeros_like(p) for p in toy.parameters()]
    average = [p.detach().clone() for p in toy.parameters()]
    batches = iter(Batches(samples, seed=0, batch_size=4))
    for step in range(9):
        toy.zero_grad()
        for batch in itertools.islice(batches, 2):
            (sum(toy.loss(batch.content).values()) / 2).backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in toy.parameters()))
        with torch.no_grad():
            for p, v, a in zip(toy.parameters(), velocity, average, strict=True):
                v.mul_(0.9).add_(p.grad * min(1.0, clip / (norm + 1e-6)))
                p.sub_(v * 0.05 * 0.5 ** (step // 3))
                a.mul_(0.5).add_(0.5 * p)
        toy.after_step(step + 1)
    written = load_file(tmp_path / "weights" / "last.safetensors")
    for (name, _), value in zip(toy.named_parameters(), average, strict=True):
        torch.testing.assert_close(written[name], value, rtol=1e-5, atol=1e-6)


def test_a_batch_is_a_function_of_seed_and_number_and_two_processes_share_one_of_twice_the_size() -> None:
    samples = ToySamples(7)
    whole = list(itertools.islice(Batches(samples, seed=3, batch_size=4, workers=3), 6))
    later = next(iter(Batches(samples, seed=3, batch_size=4, first=5, workers=1)))
    assert later.names == whole[5].names
    assert torch.equal(later.content["x"], whole[5].content["x"])
    halves = [list(itertools.islice(Batches(samples, 3, 2, rank=rank, processes=2), 6)) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert batch.names == first.names + second.names
        assert torch.equal(batch.content["x"], torch.cat([first.content["x"], second.content["x"]]))
    names = [name for batch in whole for name in batch.names]
    assert sorted(names[:7]) == sorted(names[7:14]) == [samples.name(i) for i in range(7)]
    assert names[:7] != names[7:14]
    seen = [batch for batch in whole if "sample0.jpg" in batch.names]
    first, second = (batch.content["x"][batch.names.index("sample0.jpg")] for batch in seen[:2])
    assert not torch.equal(first, second)  # another augmentation


def test_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is nothing to train on"):
        fit(tmp_path, samples=ToySamples(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 0) for name in ("max_steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "workers")],
        *[("seed", -1), ("clip", 0.0), ("max_seconds", math.nan), ("ema", 1.0), ("precision", "16-mixed")],
    ],
)
def test_settings_out_of_range_are_named(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.{name} must be"):
        fit(tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_names_the_images_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path, max_steps=4)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    with pytest.raises(
        ValueError, match=r"loss error is nan in step \d, so training stopped.*stays in .*last\.safeten"
    ) as info:
        fit(tmp_path, samples=ToySamples(broken=3), checkpoint_every=100)
    assert "sample3.jpg" in str(info.value).partition("images: ")[2]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == before
    assert fit(tmp_path).step == 9


class Exploding(Toy):
    """A finite loss whose gradient is not."""

    def loss(self, batch: Any) -> Any:
        return {"root": (self.layers[2].weight * 0).sum().abs().sqrt()}


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gradient's norm is nan in step 1, .*no checkpoint yet.*sample\d"):
        fit(tmp_path, Exploding())
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1}, r"trainer\.seed \(0 before, 1 now\)"),
        ({"batch_size": 2}, r"trainer\.batch_size \(4 before, 2 now\)"),
        ({"identity": {"optimizer": {"lr": 0.1}}}, r"optimizer"),
        ({"schedule": COSINE}, r"trainer\.schedule\.kind \(constant before, cosine now\)"),
    ],
)
def test_other_settings_are_refused_with_their_differences(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    fit(tmp_path, max_steps=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"holds a training with other settings; .*resume=false.*Different: .*{message}"):
        fit(tmp_path, **settings)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_that_cannot_be_read_is_one_error_and_stays(tmp_path: Path) -> None:
    fit(tmp_path)
    state = tmp_path / "state" / "last.safetensors"
    good, kept = state.read_bytes(), weights(tmp_path)
    contents = {
        "truncated": good[: len(good) // 2],
        "cut in the header": good[:20],
        "empty": b"",
        "text": b"not a checkpoint",
    }
    torch.save({"module": nn.Linear(2, 2)}, tmp_path / "pickled.pth")
    contents["pickled"] = (tmp_path / "pickled.pth").read_bytes()
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    contents["foreign"] = (tmp_path / "foreign.safetensors").read_bytes()
    for content in contents.values():
        state.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"last\.safetensors (is damaged|was not written).*nothing was changed"
        ) as info:
            fit(tmp_path)
        assert "\n" not in str(info.value)
        assert state.read_bytes() == content
        assert weights(tmp_path) == kept
    state.write_bytes(good)
    with pytest.raises(ValueError, match="holds other tensors than this method"):
        fit(tmp_path, Toy(normalize=False))


@pytest.mark.parametrize("room", [200, 1500])  # bytes: for no file; for the log and the weights, not for the state
def test_a_full_disk_loses_nothing_that_was_there(tmp_path: Path, room: int) -> None:
    fit(tmp_path, max_steps=4)
    before, log = (tmp_path / "state" / "last.safetensors").read_bytes(), (tmp_path / "metrics.jsonl").read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*\.(safetensors|jsonl): .*; choose another output.dir"):
            fit(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "state" / "last.safetensors").read_bytes() == before
    assert (tmp_path / "metrics.jsonl").read_text().startswith(log)
    assert all(load_file(path) for path in tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.tmp"))
    fit(tmp_path)
    fit(tmp_path / "at_once")
    assert weights(tmp_path) == weights(tmp_path / "at_once")


def test_the_best_weights_are_those_of_the_best_evaluation_also_after_a_resume(tmp_path: Path) -> None:
    scores = {2: 0.3, 4: 0.9, 5: 0.2, 6: 0.5, 8: 0.7, 9: 0.1}
    evaluation = Evaluation(lambda toy: {"score": scores[int(toy.steps)]}, "score")
    fit(tmp_path, max_steps=5, evaluate_every=2, evaluation=evaluation)
    run = fit(tmp_path, evaluate_every=2, evaluation=evaluation)
    assert run.best == {"step": 4, "value": 0.9, "metric": "score"}
    assert int(load_file(tmp_path / "weights" / "best.safetensors")["steps"]) == 4
    lines = [line for line in read_log(tmp_path / "metrics.jsonl") if "evaluation" in line]
    assert [line["step"] for line in lines] == [2, 4, 5, 6, 8, 9]
    worst = Evaluation(evaluation.score, "score", lower_is_better=True)
    fit(tmp_path / "lowest", evaluate_every=2, evaluation=worst)
    assert int(load_file(tmp_path / "lowest" / "weights" / "best.safetensors")["steps"]) == 9


def draw() -> tuple[float, float, float]:
    return torch.rand(1).item(), np.random.random(), random.random()  # noqa: NPY002 - the global generators are meant


def seed_all() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)


def test_a_training_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    seed_all()
    expected, toy = draw(), Toy()
    seed_all()
    fit(tmp_path, toy)
    assert draw() == expected
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_log_line_that_a_kill_cut_off_is_written_again(tmp_path: Path) -> None:
    fit(tmp_path, max_steps=4)
    log = tmp_path / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 7, "loss": 1}\n{"step": 5, "lo')
    fit(tmp_path)
    assert [line["step"] for line in read_log(log)] == list(range(1, 10))
    assert all(json.loads(line) for line in log.read_text().splitlines())


def test_loading_is_hidden_behind_the_step(tmp_path: Path) -> None:
    """Two threads make 4 samples of 10 ms while a step sleeps 40 ms; waiting is counted, not timed from outside."""
    run = fit(tmp_path, Toy(seconds=0.04), ToySamples(seconds=0.01), max_steps=15, checkpoint_every=100)
    assert run.times["load"] > 0.5
    assert run.times["wait"] < run.times["load"] / 2
    assert set(run.times) == {"load", "wait", "forward", "backward", "optimizer", "evaluate", "checkpoint"}


@pytest.mark.slow
def test_memory_stays_flat_over_a_thousand_steps(tmp_path: Path) -> None:
    sizes: list[int] = []
    tracemalloc.start()
    try:
        fit(
            tmp_path,
            max_steps=1000,
            log_every=100,
            on_log=lambda step, values: sizes.append(tracemalloc.get_traced_memory()[0]),
        )
    finally:
        tracemalloc.stop()
    assert len(sizes) == 10
    assert sizes[-1] < 1.2 * sizes[1]


def run_script(folder: Path, settings: dict[str, Any], *more: str, seconds: float = 0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, *more, str(SCRIPT), str(folder), json.dumps(settings), str(seconds)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    settings = {"max_steps": 120, "checkpoint_every": 3, "ema": 0.9}
    fit(tmp_path / "once", **settings)
    rng, folder, kills = random.Random(0), tmp_path / "killed", 0
    log = folder / "metrics.jsonl"
    while kills < 10:
        process, started = run_script(folder, settings, seconds=0.02), time.time()
        while process.poll() is None and not (log.is_file() and log.stat().st_mtime > started):
            time.sleep(0.02)  # until it trains
        time.sleep(rng.uniform(0, 0.25))
        assert process.poll() is None, process.communicate()[1].decode()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    process = run_script(folder, settings)
    assert process.wait() == 0, process.communicate()[1].decode()
    process.communicate()
    assert weights(folder) == weights(tmp_path / "once")
    assert losses(folder) == losses(tmp_path / "once")


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_reach_the_losses_of_one_with_the_doubled_batch(tmp_path: Path, accumulate: int) -> None:
    settings = {"max_steps": 6, "batch_size": 2, "accumulate": accumulate}
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = run_script(tmp_path / "two", {**settings, "normalize": False, "dropout": 0}, *torchrun)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    fit(tmp_path / "one", Toy(0, normalize=False), **{**settings, "batch_size": 4})
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)
    one, two = (load_file(tmp_path / name / "weights" / "last.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
