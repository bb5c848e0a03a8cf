"""A folder of results that can be interrupted at any moment and resumed.

::

    instances.json       all masks, COCO format, assembled at the end from the manifest
    labels/<name>.png    label map, 0 is background (16 bits above 255 instances)
    overlays/<name>.jpg  visualization
    masks/<name>/000.png one mask per instance, 0 or 255 (optional)
    saliency/<name>.png  8-bit foreground map, soft where the method or its refinement provides one (optional)
    manifest.jsonl       one record per image, written after all other files of the image
    run.json             versions, weights, configuration

``<name>`` is the image's path below the input, suffix included: ``dogs/rex.jpg`` gives ``labels/dogs/rex.jpg.png``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eigenseg.data.files import make_folder, output_error, read_json, write_bytes, write_image, write_json
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.results.coco import coco_dataset
from eigenseg.data.results.log import DONE, FAILED, Record, ResultLog
from eigenseg.data.results.overlay import draw_heatmap, draw_overlay
from eigenseg.data.sources import ImageSource


class ResultFolder:
    """Writes the results of a method and keeps track of finished images.

    Args:
        root: the folder; created if absent.
        run: everything the results depend on, as json values; only a run with the same ``run["identity"]`` may resume.
        resume: resume if the folder holds results of the same identity; otherwise the files of all records are removed
            and the run starts from scratch.
        labels, overlays, masks, saliency, heatmap: which images to write; ``heatmap`` draws the eigenvector next to
            the overlay.

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
        run = json.loads(json.dumps(run))  # only json values, to compare with those of a file
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
        """Whether this image is finished, all its files exist, and it has not changed since."""
        record = self.log.records.get(source.name)
        if record is None or record["status"] != DONE or record["file"] != _stamp(source):
            return False
        return all(path.exists() for path in self._files(source.name, record["instances"]))

    def add(self, source: ImageSource, image: ImageArray, instances: Instances, milliseconds: float) -> None:
        """Write all files of one image, its record last."""
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
            overlay = draw_overlay(image, instances)
            if self._heatmap:
                overlay = np.concatenate([overlay, draw_heatmap(image, instances)], axis=1)
            write_image(self._overlay(source.name), overlay)
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
        """Record that an image could not be processed; a later run tries again. Its older results are removed."""
        self._remove(source.name)
        self.log.append({"image": source.name, "status": FAILED, "error": error})

    def failures(self, sources: Iterable[ImageSource]) -> list[Record]:
        """Records of those among these images that could not be processed."""
        records = (self.log.records.get(source.name) for source in sources)
        return [record for record in records if record is not None and record["status"] == FAILED]

    def finish(self, sources: Iterable[ImageSource]) -> Path:
        """Assemble ``instances.json`` from the records of these images, sorted by name, ids from 1.

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
        """Files of an image with ``count`` instances."""
        files = [self._label(name)] if self._labels else []
        files += [self._overlay(name)] if self._overlays else []
        files += [self._saliency_map(name)] if self._saliency else []
        return files + (self._mask_files(name, count) if self._masks else [])

    def _remove(self, name: str) -> None:
        """Remove all files of an earlier record of this image, whatever its settings were."""
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
    """Size in bytes and time of the last change, to recognize an edited image; None if it is gone."""
    try:
        status = source.path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_identity(run_file: Path) -> Any:
    try:
        return read_json(run_file)["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{run_file} does not contain the settings of the results in {run_file.parent}; choose another output.dir, "
            "or resume=false to replace its results"
        ) from None


def _check_identity(root: Path, before: Any, now: Any) -> None:
    if before == now:
        return
    changed = sorted(_differences(before, now))
    raise ValueError(
        f"{root} holds results of another run; choose another output.dir, or resume=false to replace them. "
        f"Different: {', '.join(changed)}"
    )


def _differences(before: Any, now: Any, prefix: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        # The settings of two classes need not have anything in common.
        names = {"_target_"} if before.get("_target_") != now.get("_target_") else {*before, *now}
        pairs = [(name, before.get(name, "absent"), now.get(name, "absent")) for name in names]
        return [line for name, old, new in pairs if old != new for line in _differences(old, new, f"{prefix}{name}.")]
    return [f"{prefix.rstrip('.')} ({before} before, {now} now)"]
