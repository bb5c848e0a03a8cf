"""The interface of what can be trained: samples in, named losses out; the training loop knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from eigenseg.data.datasets.base import Dataset
from eigenseg.discovery.extractor import FeatureExtractor


class Samples(Protocol):
    """Training samples; a batch is a function of the seed and the step alone, so that training resumes exactly."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def item(self, index: int, rng: np.random.Generator) -> Any:
        """One sample with its augmentation; any thread, any process."""
        ...

    def collate(self, items: Sequence[Any]) -> Any:
        """A batch of samples."""
        ...


class Trainable(Protocol):
    """Interface of trainable methods."""

    def samples(self, dataset: Dataset, extractor: FeatureExtractor | None) -> Samples:
        """What to train on."""
        ...

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Named losses of a batch, scalars; their sum is minimized."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for a torch optimizer."""
        ...

    def after_step(self, step: int) -> None:
        """Called after every optimizer step: moving averages, schedules of its own."""
        ...

    def export(self) -> Mapping[str, Tensor]:
        """The tensors that inference needs."""
        ...
