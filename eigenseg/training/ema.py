"""The exponential moving average of the trained parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn


class MovingAverage:
    """a <- decay a + (1 - decay) w after every step, from the initial weights on.

    Args:
        parameters: w.
        decay: in [0, 1).

    Example:
        >>> weight = nn.Parameter(torch.zeros(1))
        >>> average = MovingAverage([weight], decay=0.75)
        >>> _ = weight.data.fill_(4)
        >>> average.update()
        >>> with average.applied():
        ...     weight.item()
        1.0
        >>> weight.item()
        4.0
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters of a step in."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter, 1 - self.decay)

    def restore(self, values: Sequence[Tensor]) -> None:
        """Replace the averages."""
        for old, new in zip(self.values, values, strict=True):
            old.copy_(new)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the parameters' place for a while."""
        before = [parameter.data for parameter in self.parameters]
        try:
            for parameter, value in zip(self.parameters, self.values, strict=True):
                parameter.data = value.clone()
            yield
        finally:
            for parameter, data in zip(self.parameters, before, strict=True):
                parameter.data = data
