"""A tiny trainable with everything that a resume could lose: order, augmentation, dropout, buffers, a step of its own.

As a script it trains into a folder, for tests that kill it or run it under torchrun:
``python toy_training.py FOLDER '{"max_steps": 9}' [seconds a step]``.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eigenseg.training import Schedule, TrainingRun, TrainingSettings, launch_fabric, train
from eigenseg.training.loop import Evaluation

WIDTH = 6
ADAMW = functools.partial(torch.optim.AdamW, lr=0.05)


class ToySamples:
    """Points (x, sum of x) with noise."""

    def __init__(self, count: int = 10, broken: int | None = None, seconds: float = 0.0) -> None:
        self.count, self.broken, self.seconds = count, broken, seconds

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"sample{index}.jpg"

    def item(self, index: int, rng: np.random.Generator) -> NDArray[np.float32]:
        time.sleep(self.seconds)
        x = np.random.default_rng(index).normal(size=WIDTH) + 0.1 * rng.normal(size=WIDTH)
        return np.append(x, np.nan if index == self.broken else x.sum()).astype(np.float32)

    def collate(self, items: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
        table = torch.from_numpy(np.stack(items))
        return {"x": table[:, :WIDTH], "y": table[:, WIDTH]}


class Toy(nn.Module):
    """y = w x with dropout and a normalization that keeps statistics; a penalty joins after three steps."""

    steps: Tensor

    def __init__(self, dropout: float = 0.3, normalize: bool = True, seconds: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.BatchNorm1d(WIDTH) if normalize else nn.Identity(), nn.Dropout(dropout), nn.Linear(WIDTH, 1)
        )
        self.register_buffer("steps", torch.tensor(0))
        self.seconds = seconds

    def samples(self, dataset: Any, extractor: Any) -> ToySamples:
        return ToySamples()

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        time.sleep(self.seconds)
        error = (self.layers(batch["x"])[:, 0] - batch["y"]).square().mean()
        return {"error": error, "penalty": self.layers[2].weight.square().sum() * 0.01 * (self.steps >= 3)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]

    def after_step(self, step: int) -> None:
        self.steps.fill_(step)

    def export(self) -> Mapping[str, Tensor]:
        return self.state_dict()

    def inference(self) -> Any:
        return self


def fit(
    folder: Path,
    toy: nn.Module | None = None,
    samples: ToySamples | None = None,
    optimizer: Callable[..., Any] = ADAMW,
    identity: Mapping[str, Any] | None = None,
    evaluation: Evaluation | None = None,
    on_log: Callable[[int, Mapping[str, Any]], None] = lambda step, values: None,
    **settings: Any,
) -> TrainingRun:
    """Train a toy on the CPU."""
    defaults = {"batch_size": 4, "max_steps": 9, "checkpoint_every": 2, "log_every": 1, "tensorboard": False}
    chosen = TrainingSettings(**{**defaults, **settings})
    fabric = launch_fabric(torch.device("cpu"), chosen.precision)
    toy, samples = toy or Toy(), ToySamples() if samples is None else samples
    return train(toy, samples, optimizer, chosen, fabric, folder, identity, {}, evaluation, on_log)


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = json.loads(sys.argv[2])
    normalize, dropout = given.pop("normalize", True), given.pop("dropout", 0.3)
    if "schedule" in given:
        given["schedule"] = Schedule(**given["schedule"])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    fit(Path(sys.argv[1]), Toy(dropout, normalize, seconds), **given)
