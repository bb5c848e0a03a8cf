"""Checkpoints as safetensors: nothing is pickled, and a file appears completely or not at all.

``state/last.safetensors`` is all that a resume needs, in one file, so that no kill can leave halves that do not belong
together: the trainable's and the optimizer's tensors and, in the header, the step, the settings and the best evaluation.
Random states are not among it: they are a function of the step. ``state/last.json`` repeats the header for readers.
``weights/`` holds what inference needs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from eigenseg.data.files import write_bytes, write_json
from eigenseg.data.results.identity import differences
from eigenseg.training.ema import MovingAverage

_KEY, _FORMAT = "eigenseg_training", 1
_MODULE, _OPTIMIZER, _AVERAGE = "module.", "optimizer.", "average."


@dataclass(frozen=True)
class Progress:
    """How far a training has come, json values only.

    Args:
        step: optimizer steps done.
        identity: what decides the weights; another one is not continued.
        seconds: of all runs so far.
        best: of the evaluations: ``step`` and ``value``; None if there was none.
    """

    step: int
    identity: Mapping[str, Any]
    seconds: float = 0.0
    best: Mapping[str, Any] | None = None


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: of the training.
    """

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state" / "last.safetensors"
        self.weights = folder / "weights"

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.state.parent, ignore_errors=True)
        shutil.rmtree(self.weights, ignore_errors=True)

    def save_weights(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write ``weights/<name>.safetensors``.

        Args:
            name: last or best.
            tensors: of any device.
            metadata: json values; those that are no strings are written as json.

        Raises:
            OutputError: if it cannot be written; an older file stays.
        """
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in metadata.items()
        }
        write_bytes(self.weights / f"{name}.safetensors", _in_order(save(_plain(tensors), texts)))

    def save(self, module: nn.Module, optimizer: Optimizer, average: MovingAverage | None, progress: Progress) -> None:
        """Write the state; called after the weights, so that a state never is ahead of them.

        Raises:
            OutputError: if it cannot be written; an older state stays.
        """
        tensors = {f"{_MODULE}{name}": value for name, value in module.state_dict().items()}
        numbers: dict[str, Any] = {}
        for name, value in _optimizer_state(optimizer):
            if isinstance(value, Tensor):
                tensors[name] = value
            else:
                numbers[name] = value
        if average is not None:
            tensors |= {f"{_AVERAGE}{i}": value for i, value in enumerate(average.values)}
        header = {"format": _FORMAT, **vars(progress), "numbers": numbers}
        write_bytes(self.state, save(_plain(tensors), {_KEY: json.dumps(header)}))
        write_json(self.state.with_suffix(".json"), header)

    def load(
        self, module: nn.Module, optimizer: Optimizer, average: MovingAverage | None, identity: Mapping[str, Any]
    ) -> Progress | None:
        """Restore the state; nothing is changed unless all of it fits.

        Args:
            module, optimizer, average: to restore.
            identity: of this training.

        Returns:
            How far it had come; None if there is no state.

        Raises:
            ValueError: if the file is damaged or was not written by a training, or the settings differ; naming them.
        """
        if not self.state.exists():
            return None
        tensors, header = self._read()
        changed = differences(header["identity"], json.loads(json.dumps(identity)))  # lists where tuples were
        if changed:
            raise ValueError(
                f"{self.state.parents[1]} holds a training with other settings; choose another output.dir, or resume=false "
                f"to start anew in it. Different: {', '.join(changed)}"
            )
        state, wanted = _strip(tensors, _MODULE), module.state_dict()
        averages = _strip(tensors, _AVERAGE)
        fits = {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in wanted.items()}
        if not fits or len(averages) != (0 if average is None else len(average.values)):
            raise self._useless("holds other tensors than this method")
        module.load_state_dict(state)
        _restore(optimizer, {**_strip(tensors, _OPTIMIZER), **_strip(header["numbers"], _OPTIMIZER)})
        if average is not None:
            average.restore([averages[str(i)] for i in range(len(averages))])
        return Progress(header["step"], header["identity"], header["seconds"], header["best"])

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            with safe_open(self.state, "pt") as file:
                header = (file.metadata() or {}).get(_KEY)
                if header is None:
                    raise self._useless("was not written by eigenseg train")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        except (SafetensorError, OSError):
            raise self._useless("is damaged, or no .safetensors file") from None
        content = json.loads(header)
        if content["format"] != _FORMAT:
            raise self._useless(f"has format {content['format']}, this version reads {_FORMAT}")
        return tensors, content

    def _useless(self, why: str) -> ValueError:
        return ValueError(
            f"{self.state} {why}, so training cannot resume from it; nothing was changed. Put a good copy in its place, or "
            "start anew with resume=false or another output.dir"
        )


def _optimizer_state(optimizer: Optimizer) -> Iterator[tuple[str, Any]]:
    """Name and value of everything that the optimizer keeps of each parameter."""
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:  # SGD's buffer before its first step
                yield f"{_OPTIMIZER}{index}.{name}", value


def _restore(optimizer: Optimizer, values: Mapping[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in values.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _strip(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in any order, which differs between runs."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return len(text).to_bytes(8, "little") + text + content[end:]
