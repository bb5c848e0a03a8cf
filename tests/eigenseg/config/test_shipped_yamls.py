"""Every shipped yaml composes and builds, with its own values."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

import pytest
import timm
import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

from eigenseg import Predictor
from eigenseg.config.build import build, build_dataset, build_metric, build_optimizer, build_parts
from eigenseg.config.compose import compose, plain
from eigenseg.config.schema import TrainerConfig
from eigenseg.discovery import ColorTexture, ViTBackbone
from eigenseg.discovery.spectral import solve_ncut, solve_ncut_arpack, solve_ncut_dense, solve_ncut_lobpcg
from eigenseg.segment.found import FoundRecipe
from eigenseg.segment.refine import BilateralSolver, DenseCRF
from eigenseg.training import Schedule, TrainingSettings
from eigenseg.video.metrics import SlotScores

SOLVERS = {"krylov": solve_ncut, "dense": solve_ncut_dense, "arpack": solve_ncut_arpack, "lobpcg": solve_ncut_lobpcg}
CONFIGS = Path(__file__).parents[3] / "configs"
SALIENCY = {
    "ecssd": (0.80343, 0.71197, 0.91781),
    "duts_te": (0.672, 0.576, 0.903),
    "dut_omron": (0.600, 0.533, 0.880),
}
CORLOC = {"voc07": (68.8, 67.3, 68.8), "voc12": (72.1, 71.6, 72.4), "coco20k": (58.8, 60.7, 59.0)}
PUBLISHED = {
    **{
        name: dict(zip(["dino_vits16", "dino_vits8", "dino_vitb16"], [{"corloc": value} for value in values], strict=True))
        for name, values in CORLOC.items()
    },
    **{
        name: {"dino_vits16": dict(zip(["max_f", "iou", "accuracy"], values, strict=True))}
        for name, values in SALIENCY.items()
    },
}


def shipped(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def test_no_yaml_is_outside_the_groups_that_are_tested_here() -> None:
    groups = {str(path.relative_to(CONFIGS).parent) for path in CONFIGS.rglob("*.yaml")}
    kinds = {"backbone", "method", "solver", "dataset", "evaluation", "output", "postprocess", "trainer", "optimizer"}
    assert groups == {".", "experiment", *kinds}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"extract", "evaluate", "train"}


@pytest.mark.parametrize("method", shipped("method"))
def test_every_method_is_built_with_its_yamls_values(method: str) -> None:
    # Trained weights are the user's; random ones stand for them here.
    trained = ["method.weights=random"] if method.startswith("class_agnostic_detector") else []
    config = compose(method, "color_texture", trained)
    built = build(config.method)
    for name, value in config.method.items():
        if name not in ("_target_", "solver") and not isinstance(value, DictConfig):
            assert getattr(built, name) == value, name


@pytest.mark.parametrize("method", ["class_agnostic_detector", "class_agnostic_detector_small"])
def test_every_setting_of_the_detector_reaches_it(method: str) -> None:
    config = compose(method, overrides=["method.weights=random"])
    assert config.backbone is None
    built = build_parts(config)["method"]
    for group in ("architecture", "detections", "recipe"):
        values = OmegaConf.to_container(config.method[group])
        assert isinstance(values, dict)
        del values["_target_"]
        given = {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(getattr(built, group)).items()
        }
        assert given == values
        if method == "class_agnostic_detector":
            assert getattr(built, group) == type(getattr(built, group))()  # the published values are the defaults


@pytest.mark.parametrize("backbone", shipped("backbone"))
def test_every_backbone_is_built_with_its_yamls_values(backbone: str) -> None:
    # One random block of the true width: the network's name and every argument are checked without its size.
    small = [] if backbone == "color_texture" else ["backbone.weights=random", "+backbone.model_args.depth=1"]
    config = compose("tokencut", backbone, small)
    built = build_parts(config)["backbone"]
    if backbone == "color_texture":
        assert isinstance(built, ColorTexture)
        return
    assert isinstance(built, ViTBackbone)
    assert timm.is_model_pretrained(config.backbone.architecture)
    for name in ("architecture", "facet", "position", "center", "amp"):
        assert getattr(built, name) == config.backbone[name]
    assert f"{built.patch_size}" in backbone.removesuffix("_reg")[-2:]
    assert config.backbone.position == ("timm" if "reg" in backbone or "dinov3" in backbone else "dino")


@pytest.mark.parametrize("solver", shipped("solver"))
def test_every_solver_reaches_the_method(solver: str) -> None:
    method = build(compose("tokencut", "color_texture", [f"solver={solver}"]).method)
    assert isinstance(method.solver, functools.partial)
    assert method.solver.func is SOLVERS[solver]


@pytest.mark.parametrize("experiment", shipped("experiment"))
@pytest.mark.parametrize("command", ["extract", "evaluate"])
def test_every_experiment_carries_numbers_of_its_metrics_and_is_built(experiment: str, command: str) -> None:
    overrides = [f"experiment={experiment}", "backbone.weights=random", "+backbone.model_args.depth=1"]
    # A trained head is the user's; a random one stands for it here.
    overrides += ["method.head=random"] if experiment.startswith("found_") else []
    config = compose(overrides=overrides, command=command)
    parts, metric = build_parts(config), build_metric(config)
    assert f"{type(parts['method']).__module__}.{type(parts['method']).__name__}".endswith(
        config.method._target_.rpartition(".")[2]
    )
    assert parts["preprocess"].mode == config.preprocess.mode is not None
    expected = config.expected["values"]
    assert set(expected) <= set(shipped("backbone"))
    assert all(set(values) <= set(metric.compute()) for values in expected.values())
    in_percent = metric.main == "corloc"
    assert all((value > 1) == in_percent for values in expected.values() for value in values.values())
    assert OmegaConf.is_missing(config.dataset, "root")


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_tokencuts_experiments_carry_its_published_numbers(name: str) -> None:
    config = compose(overrides=[f"experiment=tokencut_{name}"])
    values = config.expected["values"].items()
    assert {backbone: dict(numbers) for backbone, numbers in values} == PUBLISHED[name]
    assert (config.method.tau, config.method.eps, config.backbone.architecture) == (0.2, 1e-5, "vit_small_patch16_224.dino")


@pytest.mark.parametrize("name", [f"tokencut{kind}_{dataset}" for kind in ("", "_bilateral") for dataset in SALIENCY])
def test_tokencuts_saliency_takes_the_patch_at_a_pixels_corner_as_published(name: str) -> None:
    small = ["backbone.weights=random", "+backbone.model_args.depth=1"]
    method = build_parts(compose(overrides=[f"experiment={name}", *small]))["method"]
    assert method.nearest == "corner"
    assert build(compose("tokencut", "color_texture").method).nearest == "center"


def test_maskcuts_experiment_refines_squares_one_mask_at_a_time_as_published() -> None:
    refiner = build_parts(
        compose(overrides=["experiment=maskcut_coco", "backbone.weights=random", "+backbone.model_args.depth=1"])
    )["refiner"]
    assert (refiner.size, refiner.compat, refiner.separate) == (480, "reference", False)
    assert (refiner.min_iou, refiner.on_disagreement, refiner.holes) == (0.5, "drop", True)


def test_an_experiments_method_stands_unless_another_is_asked_for() -> None:
    overrides = ["experiment=lost_voc07"]
    assert compose(overrides=overrides).method._target_.endswith("LOST")
    assert compose("tokencut", overrides=overrides).method._target_.endswith("TokenCut")


@pytest.mark.parametrize("postprocess", shipped("postprocess"))
def test_every_postprocess_is_built_and_reaches_the_predictor(postprocess: str) -> None:
    predictor = Predictor.from_config(
        "tokencut", backbone="color_texture", device="cpu", overrides=[f"postprocess={postprocess}"]
    )
    assert isinstance(predictor.refiner, (BilateralSolver, DenseCRF))
    config = compose(overrides=[f"postprocess={postprocess}"]).postprocess
    for name, value in config.items():
        if name not in ("_target_", "parameters"):
            assert getattr(predictor.refiner, name) == value, name


@pytest.mark.parametrize("output", shipped("output"))
def test_every_output_preset_is_one_of_the_schemas_settings(output: str) -> None:
    config = compose(overrides=[f"output={output}", "output.dir=here"])
    assert config.output.dir == "here"
    assert config.output.saliency == (output == "saliency")
    assert config.output.labels == (output == "masks")


@pytest.mark.parametrize("evaluation", shipped("evaluation"))
def test_every_evaluation_is_built_with_its_yamls_values(evaluation: str) -> None:
    config = compose(overrides=[f"evaluation={evaluation}"], command="evaluate")
    metric = build_metric(config)
    for name, value in config.evaluation.items():
        if name != "_target_":
            assert getattr(metric, name) == value, name
    assert metric.main in metric.compute()


@pytest.mark.parametrize("dataset", shipped("dataset"))
def test_every_dataset_names_an_evaluation_of_its_kind_and_a_choice_goes_before_it(dataset: str) -> None:
    config = compose(overrides=[f"dataset={dataset}"], command="evaluate")
    assert build_metric(config).kind == get_class(config.dataset._target_).kind
    chosen = compose(overrides=[f"dataset={dataset}", "evaluation=slots"], command="evaluate")
    assert isinstance(build_metric(chosen), SlotScores)


@pytest.mark.parametrize("dataset", sorted({*shipped("dataset")} - {"moving_shapes"}))  # which is drawn
def test_a_dataset_without_its_folder_says_which_setting_is_missing(dataset: str) -> None:
    config = compose(overrides=[f"dataset={dataset}"], command="evaluate")
    with pytest.raises(
        ValueError, match=r"^dataset\.(root|images|image_list) is missing; say where it lies.*pydoc eigenseg"
    ):
        build_dataset(config)


@pytest.mark.parametrize("dataset", ["sod", "saliency"])
def test_gray_masks_need_no_root_where_both_folders_are_given(dataset: str, tmp_path: Path) -> None:
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 3)).save(tmp_path / folder / "a.png")
    folders = [f"dataset.images={tmp_path}/photos", f"dataset.masks={tmp_path}/masks"]
    config = compose(overrides=[f"dataset={dataset}", *folders], command="evaluate")
    assert list(build_dataset(config).items) == ["a.png"]


@pytest.mark.parametrize("optimizer", shipped("optimizer"))
def test_every_optimizer_is_built_with_its_yamls_values(optimizer: str) -> None:
    config = compose(overrides=[f"optimizer={optimizer}", "optimizer.lr=0.25"], command="train")
    (group,) = build_optimizer(config)([nn.Parameter(torch.zeros(1))]).param_groups
    for name, value in config.optimizer.items():
        if name not in ("_target_", "_partial_"):
            assert group[name] == value, name


@pytest.mark.parametrize("trainer", shipped("trainer"))
def test_every_trainer_is_one_of_the_loops_settings(trainer: str) -> None:
    settings = plain(compose(overrides=[f"trainer={trainer}"], command="train"))["trainer"]
    schedule = Schedule(**settings.pop("schedule"))
    assert vars(TrainingSettings(**settings, schedule=schedule)).items() >= settings.items()


def test_the_recipe_of_found_is_the_default_of_trainer_and_optimizer() -> None:
    """Spec: batch 50, 500 iterations, AdamW with 5e-2, StepLR 50 / 0.95."""
    config = compose(command="train")
    assert (config.trainer.batch_size, config.trainer.max_steps, config.optimizer.lr) == (50, 500, 0.05)
    assert (config.trainer.schedule.kind, config.trainer.schedule.every, config.trainer.schedule.gamma) == (
        "steps",
        50,
        0.95,
    )
    assert config.optimizer._target_ == "torch.optim.AdamW"
    assert build(config.method).recipe == FoundRecipe()
    other = compose("tokencut", command="train")
    assert (other.trainer.batch_size, other.trainer.max_steps, other.optimizer.lr) == (8, 1000, 1e-4)


def test_the_schema_of_the_trainer_has_the_defaults_of_the_loop() -> None:
    schema, defaults = dataclasses.asdict(TrainerConfig()), dataclasses.asdict(TrainingSettings())
    assert schema == {name: value for name, value in defaults.items() if name != "workers"}


def test_a_constructors_own_error_comes_out_as_it_was_raised() -> None:
    with pytest.raises(ValueError, match=r"^tau must be a number in \[0, 1\), got 7$"):
        build_parts(compose(backbone="color_texture", overrides=["method.tau=7"]))


def test_no_key_is_one_that_yaml_reads_as_a_boolean() -> None:
    for path in CONFIGS.rglob("*.yaml"):
        for node in walk(OmegaConf.to_container(OmegaConf.load(path))):
            assert all(isinstance(key, str) for key in node), f"{os.fspath(path)}: {list(node)}"


def walk(node: object) -> list[dict[object, object]]:
    if isinstance(node, dict):
        return [node, *(inner for child in node.values() for inner in walk(child))]
    return [inner for child in node for inner in walk(child)] if isinstance(node, list) else []
