"""What the training loop can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from eigenseg.data.checks import check_choice
from eigenseg.training.schedule import Schedule

# float16 is left out: its loss scale drops steps at overflows, which a stop at a loss that is not finite would hide.
PRECISIONS = ("32-true", "bf16-mixed", "64-true")
# Settings that say how long, how often and how fast, not what the weights of a step are.
_FREE = ("max_steps", "max_seconds", "log_every", "checkpoint_every", "evaluate_every", "workers", "tensorboard")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of ``train``.

    Args:
        seed: of the order, the augmentation and all random numbers of the steps.
        max_steps: optimizer steps in all, those before a resume included.
        max_seconds: stop after this time with a checkpoint; the same command continues. None: no limit.
        batch_size: samples that a process computes together.
        accumulate: batches whose gradients are averaged into one step.
        precision: ``"32-true"``, ``"bf16-mixed"`` (autocast) or ``"64-true"``.
        clip: largest L2 norm of the gradient; None does not clip.
        ema: decay of the moving average of the weights, which is what is evaluated and exported; None has none.
        schedule: of the learning rate.
        log_every, checkpoint_every: steps between two lines of the log, and two checkpoints.
        evaluate_every: steps between two evaluations; 0 evaluates at the end alone.
        workers: threads that make samples.
        deterministic: use deterministic algorithms where torch has them.
        tensorboard: write event files.

    Raises:
        ValueError: if a number is out of range; naming the setting.
    """

    seed: int = 0
    max_steps: int = 1000
    max_seconds: float | None = None
    batch_size: int = 8
    accumulate: int = 1
    precision: str = "32-true"
    clip: float | None = None
    ema: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    log_every: int = 10
    checkpoint_every: int = 100
    evaluate_every: int = 0
    workers: int = 2
    deterministic: bool = True
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("evaluate_every", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"trainer.{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("max_seconds", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"trainer.{name} must be above 0, or null for no limit, got {value}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"trainer.ema must be in [0, 1), or null for no moving average, got {self.ema}")
        check_choice("trainer.precision", self.precision, PRECISIONS)

    def identity(self, processes: int) -> dict[str, Any]:
        """What decides the weights after a number of steps.

        Args:
            processes: that train together.
        """
        settings: Mapping[str, Any] = asdict(self)
        length = {"max_steps": self.max_steps} if self.schedule.needs_length else {}
        return {name: value for name, value in settings.items() if name not in _FREE} | length | {"processes": processes}
