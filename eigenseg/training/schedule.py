"""Learning rates as a function of the step alone, so that there is no scheduler whose state could be lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from eigenseg.data.checks import check_choice

KINDS = ("constant", "linear", "cosine", "steps")


@dataclass(frozen=True)
class Schedule:
    """A factor of the learning rate for every step.

    After ``warmup`` steps, over which the factor rises linearly to 1, it is

    =========  ===========================================================================
    constant   1
    linear     from 1 to ``final``, reached at the last step
    cosine     the same along half a cosine
    steps      ``gamma`` to the power of floor(step / ``every``) (torch's StepLR)
    =========  ===========================================================================

    Args:
        kind: see above.
        warmup: steps.
        final: of linear and cosine, in [0, 1].
        every: steps between two drops.
        gamma: factor of a drop, in (0, 1].

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> Schedule("steps", every=50, gamma=0.95).factor(100, 500)
        0.9025
        >>> [round(Schedule("cosine", warmup=2).factor(step, 10), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.038]
    """

    kind: Literal["constant", "linear", "cosine", "steps"] = "constant"
    warmup: int = 0
    final: float = 0.0
    every: int = 100
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_choice("trainer.schedule.kind", self.kind, KINDS)
        if self.warmup < 0:
            raise ValueError(f"trainer.schedule.warmup must be 0 or more steps, got {self.warmup}")
        if not 0 <= self.final <= 1:
            raise ValueError(f"trainer.schedule.final must be in [0, 1], got {self.final}")
        if self.every < 1:
            raise ValueError(f"trainer.schedule.every must be at least 1 step, got {self.every}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"trainer.schedule.gamma must be in (0, 1], got {self.gamma}")

    @property
    def needs_length(self) -> bool:
        """Whether the factor depends on how many steps there are in all."""
        return self.kind in ("linear", "cosine")

    def factor(self, step: int, max_steps: int) -> float:
        """Factor of a step.

        Args:
            step: from 0.
            max_steps: of the whole training.
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.kind == "constant":
            return 1.0
        if self.kind == "steps":
            return float(self.gamma ** (step // self.every))
        done = min(1.0, (step - self.warmup) / max(1, max_steps - self.warmup))
        falling = 1 - done if self.kind == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.final + (1 - self.final) * falling
