"""Settings that are paths are named once, and none is forgotten."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from eigenseg.cli.hydra_app import arrange
from eigenseg.config.schema import LOCATIONS, NESTED, PATHS, EvaluateConfig, ExtractConfig, TrainConfig

CONFIGS = Path(__file__).parents[3] / "configs"
GROUPS = ("backbone", "method", "solver", "dataset", "evaluation", "postprocess")


def settings_of_constructors() -> dict[str, Any]:
    """``group.parameter`` of every shipped yaml and the parameter's annotation."""
    annotations = {}
    for group in GROUPS:
        for path in (CONFIGS / group).glob("*.yaml"):
            constructor: Any = get_object(OmegaConf.load(path)["_target_"])
            for name, parameter in inspect.signature(constructor).parameters.items():
                annotations[f"{group}.{name}"] = str(parameter.annotation)
    # What is composed in another place, such as a method within a method, has all settings of its own.
    nested = {
        key.replace(group, place, 1): value
        for place, group in NESTED.items()
        for key, value in annotations.items()
        if key.startswith(f"{group}.")
    }
    return {**annotations, **nested}


def test_every_constructor_argument_that_takes_a_path_is_a_path_setting_and_no_other_is() -> None:
    annotations = settings_of_constructors()
    takes_path = {name for name, annotation in annotations.items() if "PathLike" in annotation}
    assert takes_path == {path for path in PATHS if path.split(".")[0] in (*GROUPS, "validation")}


def test_path_settings_of_the_roots_are_theirs() -> None:
    roots = {*vars(ExtractConfig()), *vars(EvaluateConfig()), *vars(TrainConfig()), "hydra"}
    assert {path.split(".")[0] for path in PATHS} <= roots | set(GROUPS)
    assert set(LOCATIONS) < set(PATHS)


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("hydra")])
def test_a_path_reaches_hydra_as_it_was_typed(path: str) -> None:
    assert arrange([f"{path}=a [1], (2)${{x}}.jpg"]) == [f"{path}='a [1], (2)\\${{x}}.jpg'"]
