"""``metrics.jsonl``: a line every few steps and every evaluation, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eigenseg.data.files import output_error, write_bytes


class TrainingLog:
    """The log of one training. Lines after the step that a resume starts from are removed: they are written again.

    Args:
        folder: of the training.
        step: that the run starts from.
        tensorboard: also write event files to ``tensorboard/``.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_log(self.path) if line["step"] <= step]
        write_bytes(self.path, "".join(f"{json.dumps(line)}\n" for line in kept).encode())
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line.

        Args:
            step: number of steps done.
            values: numbers, or dicts of them.

        Raises:
            OutputError: if it cannot be written.
        """
        try:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise output_error(self.path, error) from error
        if self._writer is not None:
            for name, value in values.items():
                for part, number in value.items() if isinstance(value, Mapping) else [("", value)]:
                    if number is not None:
                        self._writer.add_scalar(f"{name}/{part}".rstrip("/"), number, step)

    def close(self) -> None:
        """Write what is left of the event files."""
        if self._writer is not None:
            self._writer.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that a kill cut off is left out, none if there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines
