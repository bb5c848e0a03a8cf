"""Every shipped preset of a dataset names a reader and that reader's own arguments."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import eigenseg.data.datasets as datasets

PRESETS = sorted((Path(__file__).parents[3] / "configs" / "dataset").glob("*.yaml"))


def test_every_reader_has_a_preset() -> None:
    targets = {str(OmegaConf.load(path)["_target_"]).rpartition(".")[2] for path in PRESETS}
    readers = {name for name in datasets.__all__ if hasattr(getattr(datasets, name), "annotation")}
    assert targets == readers - {"Dataset", "UnlabeledImages"}  # the latter is what input= makes for training


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_states_every_argument_of_its_reader(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "http" in first or path.stem in ("saliency", "moving_shapes")
    config = OmegaConf.load(path)
    module, _, name = str(config["_target_"]).rpartition(".")
    assert module == "eigenseg.data.datasets"
    parameters = inspect.signature(getattr(datasets, name)).parameters
    assert {str(key) for key in config} - {"_target_", "defaults"} == set(parameters)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and not OmegaConf.is_missing(config, key):
            assert isinstance(config[key], str)
    assert OmegaConf.is_missing(config, "root") or path.stem in ("saliency", "sod", "moving_shapes")
