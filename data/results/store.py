"""A folder of results that can be stopped at any moment and continued.

::

    instances.json       all masks, COCO format, assembled at the end from the manifest
    labels/<name>.png    one number a pixel, 0 is background (16 bits above 255 instances)
    overlays/<name>.jpg  for the eye
    masks/<name>/000.png each instance by itself, 0 or 255 (on request)
    saliency/<name>.png  8-bit foreground map, soft where the method or its refinement has a soft one (on request)
    manifest.jsonl       one record an image, written when everything else of the image is on disk
    run.json             versions, weights, configuration

``<name>`` is the picture's path below the input, suffix included: ``dogs/rex.jpg`` gives ``labels/dogs/rex.jpg.png``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eigenseg.data.files import make_folder, output_error, write_bytes, write_image, write_json
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.results.coco import coco_dataset
from eigenseg.data.results.log import DONE, FAILED, Record, ResultLog
from eigenseg.data.results.overlay import draw_heatmap, draw_overlay
from eigenseg.data.sources import ImageSource


class ResultFolder:
    """Writes what a method found and remembers what is finished.

    Args:
        root: the folder; created if absent.
        run: what the results depend on, as json values; ``run["identity"]`` decides whether a later run may continue here.
        resume: continue if the folder holds results of the same identity; otherwise everything that the records name is
            removed and the folder starts afresh.
        labels, overlays, masks, saliency, heatmap: which pictures to write; ``heatmap`` puts the eigenvector beside the
            overlay.

    Raises:
        OutputError: if the folder cannot be written.
        ValueError: if it holds results of another identity and ``resume`` is set.
    """

    def __init__(
        self,
        root: Path,
        run: Mapping[str, Any],
        *,
        resume: bool = True,
        labels: bool = True,
        overlays: bool = True,
        masks: bool = False,
        saliency: bool = False,
        heatmap: bool = False,
    ) -> None:
        self.root = root
        self._labels, self._overlays, self._masks, self._heatmap = labels, overlays, masks, heatmap
        self._saliency = saliency
        run = json.loads(json.dumps(run))  # what a file can hold, so that it compares with what a file held
        make_folder(root)
        self.log = ResultLog(root / "manifest.jsonl")
        run_file = root / "run.json"
        if resume and any(record["status"] == DONE for record in self.log.records.values()):
            _check_identity(root, _read_identity(run_file), run["identity"])
        else:
            for name in self.log.records:
                self._remove(name)
            _unlink(root / "instances.json")
            self.log.clear()
            write_json(run_file, run)

    def holds(self, source: ImageSource) -> bool:
        """Whether this picture is finished, all its files are there, and it has not been changed since."""
        record = self.log.records.get(source.name)
        if record is None or record["status"] != DONE or record["file"] != _stamp(source):
            return False
        return all(path.exists() for path in self._files(source.name, record["instances"]))

    def add(self, source: ImageSource, image: ImageArray, instances: Instances, milliseconds: float) -> None:
        """Write everything of one picture, its record last."""
        self._remove(source.name)
        if self._labels:
            label_map = instances.label_map()
            depth = np.uint8 if len(instances) <= 255 else np.uint16
            write_image(self._label(source.name), label_map.astype(depth))
        if self._masks:
            for i, path in enumerate(self._mask_files(source.name, len(instances))):
                write_image(path, np.asarray(instances.masks[i]).astype(np.uint8) * 255)
        if self._saliency:
            write_image(self._saliency_map(source.name), instances.saliency_map())
        if self._overlays:
            picture = draw_overlay(image, instances)
            if self._heatmap:
                picture = np.concatenate([picture, draw_heatmap(image, instances)], axis=1)
            write_image(self._overlay(source.name), picture)
        reason = {} if instances.reason is None else {"reason": instances.reason}
        self.log.append(
            {
                "image": source.name,
                "status": DONE,
                "instances": len(instances),
                **reason,
                "milliseconds": round(milliseconds, 2),
                "size": list(instances.image_size),
                "file": _stamp(source),
                "names": list(instances.names),
                "annotations": instances.to_coco(),
            }
        )

    def add_failure(self, source: ImageSource, error: str) -> None:
        """Record that a picture could not be processed; a later run tries it again. Older results of it are removed."""
        self._remove(source.name)
        self.log.append({"image": source.name, "status": FAILED, "error": error})

    def failures(self, sources: Iterable[ImageSource]) -> list[Record]:
        """Records of those among these pictures that could not be processed."""
        records = (self.log.records.get(source.name) for source in sources)
        return [record for record in records if record is not None and record["status"] == FAILED]

    def finish(self, sources: Iterable[ImageSource]) -> Path:
        """Assemble ``instances.json`` from the records of these pictures, sorted by name, ids from 1.

        The file is left untouched if nothing changed.
        """
        path, records = self.root / "instances.json", self.log.records
        dataset = coco_dataset(records[source.name] for source in sources if source.name in records)
        content = json.dumps(dataset, allow_nan=False).encode() + b"\n"
        if not (path.exists() and path.read_bytes() == content):
            write_bytes(path, content)
        return path

    def _label(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.png"

    def _overlay(self, name: str) -> Path:
        return self.root / "overlays" / f"{name}.jpg"

    def _saliency_map(self, name: str) -> Path:
        return self.root / "saliency" / f"{name}.png"

    def _mask_files(self, name: str, count: int) -> list[Path]:
        return [self.root / "masks" / name / f"{i:03d}.png" for i in range(count)]

    def _files(self, name: str, count: int) -> list[Path]:
        """What this folder writes for a picture with so many instances."""
        files = [self._label(name)] if self._labels else []
        files += [self._overlay(name)] if self._overlays else []
        files += [self._saliency_map(name)] if self._saliency else []
        return files + (self._mask_files(name, count) if self._masks else [])

    def _remove(self, name: str) -> None:
        """Remove what an earlier record of this picture left behind, whatever was asked for then."""
        record = self.log.records.get(name)
        if record is None or record["status"] != DONE:
            return
        single = (self._label(name), self._overlay(name), self._saliency_map(name))
        for path in (*single, *self._mask_files(name, record["instances"])):
            _unlink(path)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def _stamp(source: ImageSource) -> list[int] | None:
    """Size in bytes and time of the last change, by which an edited picture is recognized; None if it is gone."""
    try:
        status = source.path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_identity(run_file: Path) -> Any:
    try:
        return json.loads(run_file.read_text())["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{run_file} does not say with which settings {run_file.parent} was made; choose another output.dir, "
            "or resume=false to replace its results"
        ) from None


def _check_identity(root: Path, before: Any, now: Any) -> None:
    if before == now:
        return
    changed = sorted(_differences(before, now))
    raise ValueError(
        f"{root} holds results of another run; different: {', '.join(changed)}. "
        "Choose another output.dir, or resume=false to replace them"
    )


def _differences(before: Any, now: Any, prefix: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = {*before, *now}
        pairs = [(name, before.get(name, "absent"), now.get(name, "absent")) for name in names]
        return [line for name, old, new in pairs if old != new for line in _differences(old, new, f"{prefix}{name}.")]
    return [f"{prefix.rstrip('.')} ({before} before, {now} now)"]
