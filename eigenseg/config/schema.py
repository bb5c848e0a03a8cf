"""What the roots of the configuration tree hold: names, types and defaults of every setting that is not a class's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# Settings that are paths. The command line takes them as they are typed, whatever Hydra's grammar makes of their
# characters, and the folder names of a sweep leave them out. Locations say where things lie: equal data there give equal
# results. What files hold decides the results.
LOCATIONS = (
    "input",
    "output.dir",
    *(f"{group}.{name}" for group in ("dataset", "validation") for name in ("root", "images", "masks")),
    "hydra.sweep.dir",
    "hydra.run.dir",
)
# Settings that name a yaml of another group, composed in their place: method.base=lost is Hydra's method@method.base=lost.
NESTED = {"method.base": "method", "method.first": "method", "validation": "dataset"}
FILES = (
    "predictions",
    "backbone.weights",
    # What a method has, one within a method has.
    *(
        f"{method}.{file}"
        for method in ("method", *(nested for nested, group in NESTED.items() if group == "method"))
        for file in ("head", "weights", "backbone_weights")
    ),
    *(f"{group}.{name}" for group in ("dataset", "validation") for name in ("annotations", "image_list")),
)
PATHS = (*LOCATIONS, *FILES)

# Groups of which nothing may be chosen (Hydra has no backbone=null), and those that are always chosen.
OPTIONAL = ("backbone", "postprocess", "evaluation", "dataset", "experiment")
CHOSEN = ("method", "solver", "output", "trainer", "optimizer")


@dataclass
class PreprocessConfig:
    """Fields of ``eigenseg.data.Preprocess``; null means as the backbone and the method have it."""

    mode: str | None = None  # pad, round, square, crop
    resize: int | None = None  # shorter side in pixels, 0: native
    max_tokens: int | None = None


@dataclass
class RuntimeConfig:
    """Where and how fast."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1
    batch_size: int = 8  # images, or frames of a clip, computed together
    workers: int = 2  # threads that read and prepare, and as many that encode and write
    buffer_mb: int = 1024  # MiB of decoded images between reading and writing; a larger image passes alone
    threads: int | None = None  # CPU threads of torch and BLAS; null: as many as cores
    processes: int | None = None  # that score; null: as many as there are cores and work


@dataclass
class OutputConfig:
    """What extract writes where; of a clip <name> is <clip>/<frame>."""

    dir: str | None = None  # null: outputs/extract, in a sweep the job's own folder
    labels: bool = True  # labels/<name>.png
    overlays: bool = True  # overlays/<name>.jpg; of a clip <clip>.mp4 and a contact sheet <clip>.jpg
    heatmap: bool = False  # the eigenvector beside the overlay, of images alone
    masks: bool = False  # masks/<name>/000.png; of a clip masks/<clip>/<track id>/<frame>.png
    saliency: bool = False  # saliency/<name>.png, soft where the method has a soft map
    arrays: bool = False  # arrays/<name>.npz: eigenvectors, soft maps; of a clip arrays/<clip>.npz
    writers: list[Any] = field(default_factory=list)  # further ones, by their _target_


@dataclass
class EvaluateOutputConfig:
    """What evaluate writes where."""

    dir: str | None = None  # null: outputs/evaluate, in a sweep the job's own folder
    report: bool = True  # report.html


@dataclass
class CommandConfig:
    """What every command that runs a method has: the method, what it is made of, and where it runs."""

    backbone: Any = None  # null: the method brings its own features
    method: Any = MISSING
    solver: Any = MISSING
    postprocess: Any = None  # refines the masks; null leaves them on the patches
    dataset: Any = None
    evaluation: Any = None  # the metric; null: the one that the dataset's yaml names
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    resume: bool = True  # continue in an output folder of the same settings
    allow_targets: list[str] = field(
        default_factory=list
    )  # what a yaml's _target_ may name besides; only the command line counts
    expected: Any = None  # an experiment's published numbers


@dataclass
class ExtractConfig(CommandConfig):
    """Root of ``eigenseg extract``; ``evaluation`` is ignored."""

    input: str = MISSING  # image, video, folder, glob pattern, .txt list; without it the dataset's items are read
    input_kind: str = "auto"  # images, clips (every folder of images is one); auto: as the method and the files are
    output: OutputConfig = field(default_factory=OutputConfig)


@dataclass
class EvaluateConfig(CommandConfig):
    """Root of ``eigenseg evaluate``."""

    predictions: str | None = None  # file or folder to score; null runs the method
    missing: str = "error"  # or empty: an item without a prediction counts as empty
    limit: int | None = None  # items, from the first one
    output: EvaluateOutputConfig = field(default_factory=EvaluateOutputConfig)


@dataclass
class ScheduleConfig:
    """Fields of ``eigenseg.training.Schedule``: a factor of the learning rate."""

    kind: str = "constant"  # constant, linear, cosine (to final at the last step), steps (times gamma, every so many steps)
    warmup: int = 0  # steps of a linear rise
    final: float = 0.0
    every: int = 100
    gamma: float = 0.1


@dataclass
class TrainerConfig:
    """Fields of ``eigenseg.training.TrainingSettings``."""

    seed: int = 0
    max_steps: int = 1000  # in all, those before a resume included
    max_seconds: float | None = None  # stop with a checkpoint; the same command continues
    batch_size: int = 8  # images that a process computes together
    accumulate: int = 1  # batches of a step
    precision: str = "32-true"  # bf16-mixed, 64-true
    clip: float | None = None  # largest norm of the gradient
    ema: float | None = None  # decay of the average of the weights that is evaluated and exported
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    log_every: int = 10  # steps
    checkpoint_every: int = 100
    evaluate_every: int = 0  # 0: at the end alone
    deterministic: bool = True
    tensorboard: bool = True


@dataclass
class TrainOutputConfig:
    """What train writes where."""

    dir: str | None = None  # null: outputs/train, in a sweep the job's own folder
    report: bool = True  # report.html


@dataclass
class TrainConfig(CommandConfig):
    """Root of ``eigenseg train``; ``postprocess`` is ignored."""

    input: str | None = None  # images without annotations, in place of a dataset: file, folder, glob pattern, .txt list
    validation: Any = None  # the dataset that evaluation scores during training
    lower_is_better: bool = False  # of the evaluation's main number, which chooses the best weights
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    optimizer: Any = MISSING
    output: TrainOutputConfig = field(default_factory=TrainOutputConfig)


def register() -> None:
    """Make the roots known to Hydra under the names that the yamls call them."""
    store = ConfigStore.instance()
    store.store(name="eigenseg_extract", node=ExtractConfig)
    store.store(name="eigenseg_evaluate", node=EvaluateConfig)
    store.store(name="eigenseg_train", node=TrainConfig)
