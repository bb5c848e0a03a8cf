"""The interface of what can be trained: samples in, named losses out; the training loop knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from eigenseg.data.datasets.base import Dataset
from eigenseg.discovery.extractor import FeatureExtractor


class Samples(Protocol):
    """Training samples; a batch is a function of the seed and the step alone, so that training resumes exactly."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def name(self, index: int) -> str:
        """What messages call a sample, such as the image's name."""
        ...

    def item(self, index: int, rng: np.random.Generator) -> Any:
        """One sample with its augmentation, random by ``rng`` alone; any thread, any process."""
        ...

    def collate(self, items: Sequence[Any]) -> Any:
        """A batch of samples. Tensors in dicts, lists and tuples of it are moved to the device, other objects are not."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """Interface of trainable methods. They are a ``torch.nn.Module`` too, whose state dict holds all that training changes.

    Its random numbers come from torch's, NumPy's and Python's global generators, which the loop seeds at every step, or
    from a generator among its buffers.
    """

    def samples(self, dataset: Dataset, extractor: FeatureExtractor | None) -> Samples:
        """What to train on; called once and first, so that layers may be made here that depend on the features' width.

        Args:
            dataset: with the images.
            extractor: of the backbone's features, on the device; None without a backbone.
        """
        ...

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Named losses of a batch, scalars; their sum is minimized."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for a torch optimizer; ``lr_scale`` of a group is a factor of the learning rate."""
        ...

    def after_step(self, step: int) -> None:
        """Called after every optimizer step, with the number of steps so far: moving averages, schedules of its own."""
        ...

    def export(self) -> Mapping[str, Tensor]:
        """The tensors that inference needs."""
        ...

    def inference(self) -> Any:
        """The ``Method`` or ``ImageModel`` with the weights as they are now, for evaluation during training."""
        ...


def as_trainable(method: Any) -> Any:
    """The trainable part of a method: itself, or what its ``trainable()`` makes.

    Args:
        method: of any kind.

    Returns:
        A ``Trainable`` that is a ``torch.nn.Module``.

    Raises:
        ValueError: if there is nothing to train; naming the class.

    Example:
        >>> from eigenseg.discovery import TokenCut
        >>> as_trainable(TokenCut())
        Traceback (most recent call last):
            ...
        ValueError: TokenCut has nothing to train; trainable methods are FOUND (method=found) and classes with ...
    """
    make = getattr(method, "trainable", None)
    trainable = make() if callable(make) else method
    if not (isinstance(trainable, Trainable) and isinstance(trainable, nn.Module)):
        raise ValueError(
            f"{type(method).__name__} has nothing to train; trainable methods are FOUND (method=found) and classes with "
            "the functions of eigenseg.discovery.Trainable that are a torch.nn.Module"
        )
    return trainable
