"""A training stops where a number is no longer finite, before it reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from eigenseg.training.checkpoint import Checkpoints

_NAMES_SHOWN = 8  # samples of a batch in an error; more would fill the screen


def check_losses(
    values: Mapping[str, float], losses: Mapping[str, Tensor], step: int, names: Sequence[str], checkpoints: Checkpoints
) -> None:
    """Raise if a loss of any process is not finite.

    Args:
        values: losses averaged over the processes.
        losses: of this process.
        step: from 0.
        names: of the batch's samples.
        checkpoints: of the training, which the message names.

    Raises:
        ValueError: naming the losses and the batch's samples.
    """
    if all(math.isfinite(value) for value in values.values()):
        return
    numbers = {name: value.item() for name, value in losses.items()}
    own = {name: value for name, value in numbers.items() if not math.isfinite(value)}
    if not own:
        raise ValueError(f"a loss of another process is not finite in step {step + 1}")
    what = ", ".join(f"{name} is {value}" for name, value in own.items())
    raise _not_finite(f"loss {what}", step, names, checkpoints)


def check_gradient(norm: float, step: int, names: Sequence[str], checkpoints: Checkpoints) -> None:
    """Raise if the norm of the gradient is not finite.

    Args:
        norm: L2, over all parameters.
        step, names, checkpoints: as in ``check_losses``.

    Raises:
        ValueError: naming the batch's samples.
    """
    if not math.isfinite(norm):
        raise _not_finite(f"the gradient's norm is {norm}", step, names, checkpoints)


def _not_finite(what: str, step: int, names: Sequence[str], checkpoints: Checkpoints) -> ValueError:
    shown = ", ".join(names[:_NAMES_SHOWN]) + (
        f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    )
    kept = (
        f"the last good checkpoint stays in {checkpoints.state}"
        if checkpoints.state.exists()
        else "there is no checkpoint yet"
    )
    return ValueError(
        f"{what} in step {step + 1}, so training stopped before it; {kept}. The batch's images: {shown}. A lower "
        "optimizer.lr, or trainer.clip, may help"
    )
