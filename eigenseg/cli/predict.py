"""Run the configured method over images or clips into a result folder: what extract and evaluate share."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eigenseg.cli.console import is_watched, plural, progress_bar
from eigenseg.cli.interrupts import begin_work
from eigenseg.clip_predictor import ClipPredictor
from eigenseg.config.build import PredictorParts, build_parts
from eigenseg.config.compose import plain
from eigenseg.config.schema import FILES
from eigenseg.config.suited import TABLE, suited_settings
from eigenseg.data.datasets.base import Dataset, check_images
from eigenseg.data.files import exclusive
from eigenseg.data.results.base import Writer
from eigenseg.data.results.clip_writers import clip_writers
from eigenseg.data.results.identity import resolve_identity
from eigenseg.data.results.records import Kind
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import image_writers
from eigenseg.data.sources import ClipSource, ImageSource
from eigenseg.data.stages import Batching
from eigenseg.discovery.reasons import LOOK_ALIKE
from eigenseg.pipeline import Summary, extract
from eigenseg.predictor import Predictor, make_predictor
from eigenseg.runtime import versions
from eigenseg.video.method import VideoMethod

# One image in twenty: a few are plain walls and skies, more show that the features do not suit the method.
_ALIKE = 0.05
_FAILURES_SHOWN = 20  # a screenful; the manifest has them all


@dataclass(frozen=True)
class Job:
    """What to run over what.

    Args:
        parts: of the predictor.
        batching: how much happens at a time.
        sources: all images or all clips.
        clips: whether they are clips.
        origin: where they come from; a folder is continued only with sources of the same origin.
        suited: the method's settings that the backbone decides.
    """

    parts: PredictorParts
    batching: Batching
    sources: Sequence[ImageSource] | Sequence[ClipSource]
    clips: bool
    origin: Any
    suited: Mapping[str, Any]

    def notes(self) -> list[str]:
        """What a user might not expect: settings that the backbone decides, and that an image method on clips is linked."""
        method, notes = self.parts["method"], []
        # Numbers alone: whether masks are rejected is said where one is.
        numbers = [f"{name}={value}" for name, value in self.suited.items() if not isinstance(value, bool)]
        if numbers:
            settings = " ".join(numbers)
            notes.append(f"{settings} as the backbone's features need; the published values belong to DINO's keys")
        if self.clips and not isinstance(method, VideoMethod):
            name = type(method).__name__
            notes.append(
                f"{name} finds objects image by image; they are linked over the frames by mask overlap (method=per_frame)"
            )
        return notes


def build_job(
    config: Any, method: Any, sources: Sequence[ImageSource] | Sequence[ClipSource], clips: bool, origin: Any
) -> Job:
    """Build what a job needs; what costs nothing goes before the backbone, whose weights may take a minute.

    Raises:
        ValueError, FileNotFoundError: if the configuration is wrong.
    """
    runtime = plain(config)["runtime"]
    batching = Batching(runtime["batch_size"], runtime["workers"], runtime["buffer_mb"])
    return Job(build_parts(config, method), batching, sources, clips, origin, suited_settings(config))


def predict_into(root: Path, config: Any, job: Job, writers: Sequence[Writer]) -> tuple[Summary, ResultStore]:
    """Predict with the configured method and write the results, continuing what an earlier run began.

    Args:
        root: folder of the results.
        config: with ``backbone``, ``method``, ``runtime`` and ``resume``.
        job: what to run over what.
        writers: of the files beside the records.
    """
    settings = plain(config)
    predictor = make_predictor(**job.parts, batching=job.batching, clips=job.clips)
    begin_work()
    with exclusive(root):
        run = {
            "config": settings,
            "parts": predictor.provenance(),
            "device": str(predictor.device),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        }
        identity = run_identity(settings, predictor, job)
        kind: Kind = "clip" if job.clips else "image"
        store = ResultStore(root, identity, writers, run, resume=settings["resume"], kind=kind)
        with progress_bar("frames" if job.clips else "images", _waiting(job, store)) as advance:
            summary = extract(predictor, job.sources, store, job.batching, advance)
    report_failures(store, job.sources)
    return summary, store


def advice(settings: Mapping[str, Any], summary: Summary) -> list[str]:
    """What a run has not found, and what to try where all tokens of several images look alike.

    Args:
        settings: with ``backbone`` and ``method``.
        summary: of the run.
    """
    kind = "clip" if summary.frames else "image"
    notes = []
    if summary.empty:
        notes.append(f"no object in {summary.empty} of {plural(summary.items, kind)}; manifest.jsonl says why")
    if summary.rejected:
        keep = "postprocess.on_disagreement=keep keeps those before"
        notes.append(f"refinement changed {plural(summary.rejected, 'mask')} too much, and dropped them; {keep}")
    if summary.alike and summary.alike >= _ALIKE * summary.items:
        tries = _other_features(settings)
        where = f"in {summary.alike} of {plural(summary.items, kind)}"
        notes += [f"{LOOK_ALIKE} {where}; if these hold objects, try {tries}"] if tries else []
    return notes


def _other_features(settings: Mapping[str, Any]) -> str | None:
    """The setting that makes tokens look less alike."""
    facet = (settings["backbone"] or {}).get("facet")
    name, method = "method", settings["method"]
    if isinstance(method.get("base"), Mapping):
        name, method = "method.base", method["base"]
    if facet not in (None, "token"):
        return "backbone.facet=token"
    for limit in ("tau", "threshold"):  # cosines above it count as alike
        if limit in method:
            return f"{name}.{limit}={min(method[limit] + 0.1, 0.9):.2g}"
    return None if facet is None else "backbone.center=true"


def run_identity(settings: Mapping[str, Any], predictor: Predictor | ClipPredictor, job: Job) -> dict[str, Any]:
    """Everything that decides the results: settings with the content of files, weights and revisions, the input."""
    chosen = {name: settings[name] for name in ("backbone", "method", "postprocess")}
    if chosen["backbone"] is not None:  # what its table decides is among the method's settings
        chosen["backbone"] = {name: value for name, value in chosen["backbone"].items() if name != TABLE}
    if isinstance(predictor, ClipPredictor) and not isinstance(job.parts["method"], VideoMethod):
        chosen["method"] = _as_per_frame(predictor.method, chosen["method"])
    parts = predictor.provenance()
    weights = {name: part["weights"] for name, part in parts.items() if "weights" in part}
    return {
        **resolve_identity(chosen, FILES),
        "preprocess": vars(predictor.preprocess),
        "revisions": {name: part["revision"] for name, part in parts.items()},
        # What a file holds, not where it lies.
        "weights": {name: {"sha256": one["sha256"]} if "sha256" in one else one for name, one in weights.items()},
        "input": job.origin,
    }


def output_writers(output: Mapping[str, Any], clips: bool) -> list[Writer]:
    """The writers that ``output`` asks for."""
    wanted = {name: output[name] for name in ("labels", "overlays", "masks", "saliency", "arrays")}
    return clip_writers(**wanted) if clips else image_writers(**wanted, heatmap=output["heatmap"])


def dataset_sources(dataset: Dataset, indices: Sequence[int] | None = None) -> list[ImageSource] | list[ClipSource]:
    """Images of a dataset's items, or its clips; all if no indices are given.

    Raises:
        FileNotFoundError: if an image is missing.
    """
    check_images(dataset, indices)
    chosen = range(len(dataset.items)) if indices is None else indices
    if dataset.kind != "video":
        return [source for i in chosen for source in dataset.images(i)]
    frames = {dataset.items[i]: dataset.images(i) for i in chosen}
    return [ClipSource(images[0].path.parent, item, tuple(images)) for item, images in frames.items()]


def check_dataset(dataset: Dataset, method: Any) -> None:
    """Raise if a video method is to run on a dataset of images.

    Raises:
        ValueError: naming both.
    """
    if isinstance(method, VideoMethod) and dataset.kind != "video":
        name = type(method).__name__
        raise ValueError(f"{name} works on clips, {dataset.title} holds images; choose an image method: method=tokencut")


def report_failures(store: ResultStore, sources: Sequence[Any]) -> None:
    """Name the images, clips and frames that could not be processed, on standard error."""
    failed = [f"failed: {record.name}: {record.error}" for record in store.failures(sources)]
    lost = [
        line
        for record in store.incomplete(sources)
        for line in (*([record.truncated] if record.truncated else []), *record.unreadable.values())
    ]
    lines = [*failed, *(f"incomplete: {line}" for line in lost)]
    for line in lines[:_FAILURES_SHOWN]:
        print(line, file=sys.stderr)
    if len(lines) > _FAILURES_SHOWN:
        print(f"failed: and {len(lines) - _FAILURES_SHOWN} more, see {store.log.path}", file=sys.stderr)


def _as_per_frame(linking: Any, base: Any) -> dict[str, Any]:
    """Settings of ``method=per_frame`` that do the same as an image method whose objects are linked."""
    return {"_target_": "eigenseg.video.PerFrame", "min_iou": linking.min_iou, "max_gap": linking.max_gap, "base": base}


def _waiting(job: Job, store: ResultStore) -> int | None:
    """Images or frames that are not done; None if a video does not say how many frames it has."""
    if not is_watched():  # counting looks at every file once more, so only where the bar is seen
        return 0
    waiting = [source for source in job.sources if not store.holds(source)]
    if not job.clips:
        return len(waiting)
    frames = [len(source.frames) for source in waiting if isinstance(source, ClipSource)]
    return sum(frames) if all(frames) else None
