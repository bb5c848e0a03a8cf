"""The training loop: one loop over any ``Trainable``.

Data flow of a step: samples, made ahead by threads (``batches.py``) -> losses -> gradients, averaged over processes ->
optimizer, with the learning rate of the step -> moving average. Everything random is a function of the seed and the step,
so a run that was killed and started again ends in the weights of one that was not.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eigenseg.discovery.trainable import Samples
from eigenseg.training.batches import Batch, Batches
from eigenseg.training.checkpoint import Checkpoints, Progress
from eigenseg.training.ema import MovingAverage
from eigenseg.training.finite import check_gradient, check_losses
from eigenseg.training.log import TrainingLog
from eigenseg.training.module import LossModule, Opaque, to_device
from eigenseg.training.seeding import deterministic_algorithms, own_randomness, seed_step
from eigenseg.training.settings import TrainingSettings

# Takes the number of steps done and the values of a new line of the log.
OnLog = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Evaluation:
    """How weights are compared during training.

    Args:
        score: numbers by name of the trainable as it is.
        main: the number that decides which weights are best.
        lower_is_better: of that number.
    """

    score: Callable[[Any], Mapping[str, float | None]]
    main: str
    lower_is_better: bool = False


@dataclass
class TrainingRun:
    """What a call of ``train`` did."""

    first: int  # steps done before it
    step: int = 0  # steps done after it
    losses: dict[str, float] = field(default_factory=dict)  # of the last step
    best: Mapping[str, Any] | None = None
    finished: bool = False  # max_steps were reached, not max_seconds
    samples: int = 0  # of all processes
    seconds: float = 0.0
    times: dict[str, float] = field(default_factory=dict)  # seconds by stage


def train(
    trainable: Any,
    samples: Samples,
    make_optimizer: Callable[[list[dict[str, Any]]], Optimizer],
    settings: TrainingSettings,
    fabric: Any,
    folder: Path,
    identity: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    evaluation: Evaluation | None = None,
    on_log: OnLog = lambda step, values: None,
) -> TrainingRun:
    """Train, continuing what an earlier call in the same folder began.

    Args:
        trainable: a ``Trainable``; its ``samples`` was called.
        samples: what that returned.
        make_optimizer: from parameter groups to an optimizer.
        settings: of the loop.
        fabric: launched, see ``launch_fabric``.
        folder: of checkpoints and log.
        identity: what decides the weights besides ``settings``, json values; a folder of another identity is refused.
        metadata: of the weights' files, json values.
        evaluation: of the weights, on the first process; without it the best weights are the last ones.
        on_log: called on the first process with the step and the values of a new line of the log.

    Raises:
        ValueError: if a loss or the gradient is not finite (the message names the batch's samples; the last checkpoint
            stays), or the folder's checkpoint cannot be continued.
        OutputError: if something cannot be written; the last checkpoint stays.
    """
    loop = _Loop(trainable, make_optimizer, settings, fabric, Checkpoints(folder), metadata or {}, evaluation)
    identity = {**(identity or {}), "trainer": settings.identity(fabric.world_size)}
    with own_randomness(), deterministic_algorithms(settings.deterministic):
        progress = loop.checkpoints.load(loop.trainable, loop.optimizer, loop.average, identity)
        fabric.barrier()  # nobody writes before all have read
        progress = progress or Progress(0, identity)
        if progress.step >= settings.max_steps:
            return TrainingRun(progress.step, progress.step, best=progress.best, finished=True)
        log = TrainingLog(folder, progress.step, settings.tensorboard) if fabric.is_global_zero else None
        try:
            return loop.run(samples, progress, log, on_log)
        finally:
            if log is not None:
                log.close()


class _Loop:
    """The parts that a step needs."""

    def __init__(
        self,
        trainable: Any,
        make_optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        settings: TrainingSettings,
        fabric: Any,
        checkpoints: Checkpoints,
        metadata: Mapping[str, Any],
        evaluation: Evaluation | None,
    ) -> None:
        self.trainable, self.settings, self.fabric = trainable, settings, fabric
        self.checkpoints, self.metadata, self.evaluation = checkpoints, metadata, evaluation
        trainable.to(fabric.device)
        self.optimizer = make_optimizer(trainable.parameter_groups())
        self.rates = [group["lr"] * group.get("lr_scale", 1.0) for group in self.optimizer.param_groups]
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.module, self.stepper = fabric.setup(LossModule(trainable), self.optimizer)
        self.average = None if settings.ema is None else MovingAverage(self.parameters, settings.ema)
        self.times = dict.fromkeys(("forward", "backward", "optimizer", "evaluate", "checkpoint"), 0.0)

    def run(
        self,
        samples: Samples,
        progress: Progress,
        log: TrainingLog | None,
        on_log: OnLog,
    ) -> TrainingRun:
        """Step until the end, or until the time is up."""
        settings, processes = self.settings, self.fabric.world_size
        batches = Batches(
            samples,
            settings.seed,
            settings.batch_size,
            progress.step * settings.accumulate,
            self.fabric.global_rank,
            processes,
            settings.workers,
        )
        done = TrainingRun(progress.step, progress.step, best=progress.best)
        recent: list[dict[str, float]] = []
        start = logged = time.perf_counter()
        logged_at = progress.step
        with contextlib.closing(iter(batches)) as stream:
            while not done.finished:
                step = done.step
                losses, late = self._step(step, stream, time.perf_counter() - start)
                done.step, done.losses = step + 1, losses
                done.finished = done.step == settings.max_steps
                recent.append(losses)
                ends = done.finished or late
                if log is not None and (ends or done.step % settings.log_every == 0):
                    now = time.perf_counter()
                    rate = (done.step - logged_at) * self._samples_per_step() / (now - logged)
                    line = {
                        **_mean(recent),
                        "lr": self.optimizer.param_groups[0]["lr"],
                        "samples_per_second": round(rate, 3),
                    }
                    log.write(done.step, line)
                    on_log(done.step, line)
                    recent, logged, logged_at = [], now, done.step
                if self.evaluation and (done.finished or _due(done.step, settings.evaluate_every)):
                    done.best = self._evaluate(done, log, on_log)
                if ends or _due(done.step, settings.checkpoint_every):
                    seconds = progress.seconds + time.perf_counter() - start
                    self._checkpoint(Progress(done.step, progress.identity, round(seconds, 3), done.best))
                if late:
                    break
        done.seconds = time.perf_counter() - start
        done.samples = (done.step - done.first) * self._samples_per_step()
        done.times = {
            name: round(seconds, 3)
            for name, seconds in {"load": batches.loading, "wait": batches.waiting, **self.times}.items()
        }
        return done

    def _samples_per_step(self) -> int:
        return self.settings.batch_size * self.settings.accumulate * int(self.fabric.world_size)

    def _step(self, step: int, stream: Iterator[Batch], elapsed: float) -> tuple[dict[str, float], bool]:
        """One optimizer step; the mean losses of all processes, and whether the time is up."""
        settings, fabric = self.settings, self.fabric
        rate = settings.schedule.factor(step, settings.max_steps)
        for group, base in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = base * rate
        self.module.train()
        parts: list[dict[str, float]] = []
        names: list[str] = []
        late = False
        for part in range(settings.accumulate):
            batch = next(stream)
            names += batch.names
            seed_step(settings.seed, step * settings.accumulate + part, fabric.global_rank)
            with fabric.no_backward_sync(self.module, enabled=part < settings.accumulate - 1):
                with self._timed("forward"):
                    losses = self.module(Opaque(to_device(batch.content, fabric.device)))
                    values, late = self._gather(losses, elapsed)
                check_losses(values, losses, step, batch.names, self.checkpoints)
                with self._timed("backward"):
                    fabric.backward(torch.stack(list(losses.values())).sum() / settings.accumulate)
            parts.append(values)
        with self._timed("optimizer"):
            limit = math.inf if settings.clip is None else settings.clip
            norm = float(nn.utils.clip_grad_norm_(self.parameters, limit))
            check_gradient(norm, step, names, self.checkpoints)
            self.stepper.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                self.average.update()
            self.trainable.after_step(step + 1)
        return {**_mean(parts), "gradient_norm": norm}, late

    def _gather(self, losses: Mapping[str, Tensor], elapsed: float) -> tuple[dict[str, float], bool]:
        """Losses averaged over the processes, the sum first, and whether the time of one of them is up."""
        late = float(self.settings.max_seconds is not None and elapsed > self.settings.max_seconds)
        values = torch.stack([value.detach().double() for value in losses.values()])
        packed = torch.cat([values.sum()[None], values, values.new_tensor([late])])
        if self.fabric.world_size > 1:
            packed = self.fabric.all_reduce(packed, reduce_op="mean")
        total, *parts, late = packed.tolist()
        named = {f"loss_{name}": value for name, value in zip(losses, parts, strict=True)}
        return {"loss": total, **(named if len(named) > 1 else {})}, late > 0

    def _evaluate(self, done: TrainingRun, log: TrainingLog | None, on_log: OnLog) -> Mapping[str, Any] | None:
        """Score the weights, and keep them if they are the best so far."""
        best = done.best
        with self._timed("evaluate"):
            if log is not None:
                assert self.evaluation is not None
                with self._averaged():
                    self.module.eval()
                    scores = dict(self.evaluation.score(self.trainable))
                    self.module.train()
                    log.write(done.step, {"evaluation": scores})
                    on_log(done.step, {"evaluation": scores})
                    value = scores.get(self.evaluation.main)
                    sign = -1 if self.evaluation.lower_is_better else 1
                    if value is not None and (best is None or sign * value > sign * best["value"]):
                        best = {"step": done.step, "value": value, "metric": self.evaluation.main}
                        self._save_weights("best", {**best, "selected_by": self.evaluation.main})
            self.fabric.barrier()
        return best

    def _checkpoint(self, progress: Progress) -> None:
        with self._timed("checkpoint"):
            if self.fabric.is_global_zero:
                with self._averaged():
                    self._save_weights("last", {"step": progress.step})
                    if progress.best is None:
                        self._save_weights("best", {"step": progress.step, "selected_by": "none"})
                self.checkpoints.save(self.trainable, self.optimizer, self.average, progress)
            self.fabric.barrier()

    def _save_weights(self, name: str, metadata: Mapping[str, Any]) -> None:
        self.checkpoints.save_weights(name, self.trainable.export(), {**self.metadata, **metadata})

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.average is None else self.average.applied()

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.times[stage] += time.perf_counter() - start


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: math.fsum(row[name] for row in rows if name in row) / sum(name in row for row in rows) for name in rows[-1]
    }


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
