"""``eigenseg train``: a trainable method on images, as a configuration says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from eigenseg.cli.console import format_number, plural
from eigenseg.config.build import (
    build_dataset,
    build_group,
    build_method,
    build_metric,
    build_optimizer,
    build_validation,
)
from eigenseg.config.compose import given_settings, job_folder, plain
from eigenseg.config.schema import FILES
from eigenseg.config.suited import TABLE
from eigenseg.data.datasets import UnlabeledImages
from eigenseg.data.datasets.base import Dataset
from eigenseg.data.files import exclusive, write_json
from eigenseg.data.preprocess import Preprocess
from eigenseg.data.results.identity import resolve_identity
from eigenseg.data.stages import Batching
from eigenseg.discovery.extractor import FeatureExtractor
from eigenseg.discovery.trainable import as_trainable
from eigenseg.kinds import check_backbone, needs_backbone
from eigenseg.parts import provenances
from eigenseg.predictor import Predictor
from eigenseg.report.training import write_training_report
from eigenseg.runtime import choose_device, limit_threads, versions
from eigenseg.training.checkpoint import Checkpoints
from eigenseg.training.evaluation import make_score
from eigenseg.training.launch import check_installed, launch_fabric
from eigenseg.training.log import read_log
from eigenseg.training.loop import Evaluation, TrainingRun, train
from eigenseg.training.schedule import Schedule
from eigenseg.training.settings import TrainingSettings


def run_train(config: Any) -> dict[str, Any]:
    """Train as configured (``TrainConfig``).

    Returns:
        What ``run.json`` holds, ``output``, ``metrics`` (of the best evaluation) and ``failures``.

    Raises:
        ValueError, TypeError, FileNotFoundError: if the configuration is wrong, a loss is not finite, or the folder holds
            something that cannot be continued.
        OutputError: if something cannot be written.
    """
    plan = plain(config)
    check_installed()
    settings = _training_settings(plan)
    root = Path(job_folder(plan["output"]["dir"]) or os.path.join("outputs", "train"))
    limit_threads(plan["runtime"]["threads"])
    dataset, validation, make_optimizer = _find_dataset(config, plan), build_validation(config), build_optimizer(config)
    metric = None if validation is None else build_metric(config)
    torch.manual_seed(settings.seed)  # layers that the method makes now are the same in every process and every resume
    method = build_method(config)
    trainable = as_trainable(method)
    fabric = launch_fabric(choose_device(plan["runtime"]["device"]), settings.precision)
    extractor = _build_extractor(config, method, fabric.device)
    samples = trainable.samples(dataset, extractor)
    evaluation = None
    if validation is not None and metric is not None:

        def make_predictor(inference: Any) -> Predictor:
            backbone = None if extractor is None else extractor.backbone
            fitting = Preprocess(**plan["preprocess"])
            return Predictor(backbone, inference, fitting, str(fabric.device))

        batching = Batching(plan["runtime"]["batch_size"], plan["runtime"]["workers"], plan["runtime"]["buffer_mb"])
        score = make_score(validation, metric, make_predictor, batching)
        evaluation = Evaluation(score, metric.main, plan["lower_is_better"])
    parts = provenances(backbone=None if extractor is None else extractor.backbone, method=method)
    identity, metadata = _identity(plan, parts, dataset), _metadata(plan, parts, extractor)
    main = fabric.is_global_zero
    with exclusive(root) if main else contextlib.nullcontext():
        if main and not plan["resume"]:
            Checkpoints(root).clear()
        fabric.barrier()
        if main:
            print(
                f"training {type(method).__name__} on {plural(len(samples), 'image')}, {settings.max_steps} steps -> {root}"
            )
        done = train(
            trainable,
            samples,
            make_optimizer,
            settings,
            fabric,
            root,
            identity,
            metadata,
            evaluation,
            lambda step, values: _print_line(step, settings.max_steps, values),
        )
        run = _run_content(plan, settings, done, parts, fabric, f"{type(method).__name__} on {dataset.title}")
        if main and (done.step > done.first or not (root / "run.json").exists()):
            write_json(root / "run.json", run)
            if plan["output"]["report"]:
                write_training_report(root / "report.html", run, read_log(root / "metrics.jsonl"))
    if main:
        _print_end(done, settings, root, plan["output"]["report"])
    return {**run, "output": str(root), "failures": 0}


def _training_settings(plan: Mapping[str, Any]) -> TrainingSettings:
    given = {**plan["trainer"], "schedule": Schedule(**plan["trainer"]["schedule"])}
    return TrainingSettings(**given, workers=plan["runtime"]["workers"])


def _find_dataset(config: DictConfig, plan: Mapping[str, Any]) -> Dataset:
    """The images to train on."""
    if plan["input"] is None and config.dataset is None:
        raise ValueError(
            "input is missing; say what to train on: input=photos/ (image, folder, glob pattern or .txt list), or "
            "dataset=NAME dataset.root=FOLDER"
        )
    if plan["input"] is not None and config.dataset is not None:
        raise ValueError(f"input={plan['input']} and dataset both say what to train on; give one of them")
    return build_dataset(config) if plan["input"] is None else UnlabeledImages(plan["input"])


def _build_extractor(config: DictConfig, method: Any, device: torch.device) -> FeatureExtractor | None:
    """The backbone with its preprocessing; None where the method brings its own features."""
    check_backbone(type(method).__name__, needs_backbone(method), config.backbone)
    if config.backbone is None:
        return None
    preprocess = Preprocess(**plain(config)["preprocess"])
    return FeatureExtractor(build_group(config, "backbone"), preprocess, device, getattr(method, "preprocess", None))


def _identity(plan: Mapping[str, Any], parts: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Everything that decides the weights besides the loop's own settings."""
    chosen = {name: plan[name] for name in ("backbone", "method", "optimizer", "validation", "evaluation", "preprocess")}
    if chosen["backbone"] is not None:  # what its table decides is among the method's settings
        chosen["backbone"] = {name: value for name, value in chosen["backbone"].items() if name != TABLE}
    if chosen["validation"] is None:
        del chosen["evaluation"]  # only the dataset's usual one, which nothing asks for
    return {
        **resolve_identity(chosen, FILES),
        "revisions": {name: part["revision"] for name, part in parts.items()},
        "weights": {name: part["weights"].get("sha256") for name, part in parts.items() if "weights" in part},
        "data": {
            "dataset": plan["dataset"],
            "input": plan["input"] and os.path.abspath(plan["input"]),
            "items": len(dataset.items),
        },
    }


def _metadata(plan: Mapping[str, Any], parts: Mapping[str, Any], extractor: FeatureExtractor | None) -> dict[str, Any]:
    """What the files of weights say of themselves."""
    metadata = {
        "method": plan["method"]["_target_"],
        "settings": {name: plan[name] for name in ("method", "trainer", "optimizer")},
    }
    if extractor is not None:
        backbone = parts["backbone"]
        metadata["backbone"] = backbone.get("architecture", backbone["class"])
        metadata["facet"] = getattr(extractor.backbone, "facet", None) or metadata["backbone"]
        metadata["patch"] = extractor.backbone.patch_size
        metadata["backbone_weights"] = backbone.get("weights", {})
    return metadata


def _run_content(
    plan: Mapping[str, Any],
    settings: TrainingSettings,
    done: TrainingRun,
    parts: Mapping[str, Any],
    fabric: Any,
    title: str,
) -> dict[str, Any]:
    return {
        "title": title,
        "config": dict(plan),
        "overrides": given_settings(),
        "parts": parts,
        "device": str(fabric.device),
        "processes": fabric.world_size,
        "samples_per_step": settings.batch_size * settings.accumulate * fabric.world_size,
        "step": done.step,
        "max_steps": settings.max_steps,
        "losses": done.losses,
        "best": None if done.best is None else dict(done.best),
        "seconds": round(done.seconds, 3),
        "times": done.times,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _print_line(step: int, steps: int, values: Mapping[str, Any]) -> None:
    """One line of the log."""
    if "evaluation" in values:
        numbers = "  ".join(f"{name} {format_number(value)}" for name, value in values["evaluation"].items())
        print(f"step {step}/{steps}  evaluation  {numbers}", flush=True)
        return
    parts = ", ".join(
        f"{name.removeprefix('loss_')} {value:.4f}" for name, value in values.items() if name.startswith("loss_")
    )
    shown = f" ({parts})" if parts else ""
    rate = f"{values['samples_per_second']:.1f} images/s"
    print(f"step {step}/{steps}  loss {values['loss']:.4f}{shown}  {rate}", flush=True)


def _print_end(done: TrainingRun, settings: TrainingSettings, root: Path, report: bool) -> None:
    if done.step == done.first:
        print(f"{plural(done.step, 'step')} were done already, nothing is left to do -> {root}")
    else:
        rate = done.samples / done.seconds
        print(f"{done.step} of {plural(settings.max_steps, 'step')}, {rate:.1f} images/s, {done.seconds:.1f} s -> {root}")
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in done.times.items())
        print(f"seconds by stage: {stages} (load runs in threads beside the others)")
    if not done.finished:
        print("stopped by trainer.max_seconds; the same command continues")
    if done.best is not None:
        print(f"best {done.best['metric']} {format_number(done.best['value'])} at step {done.best['step']}")
    print(f"{root / 'weights' / 'best.safetensors'}" + (f", look at {root / 'report.html'}" if report else ""))
