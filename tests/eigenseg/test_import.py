"""Importing is cheap: each entry loads only what it needs, and every public name is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import eigenseg

HEAVY = (
    "torch",
    "numpy",
    "timm",
    "torchvision",
    "cv2",
    "hydra",
    "omegaconf",
    "matplotlib",
    "faster_coco_eval",
    "sklearn",
    "av",
    "msgspec",
)
PACKAGES = (
    "eigenseg",
    "eigenseg.data",
    "eigenseg.data.datasets",
    "eigenseg.data.predictions",
    "eigenseg.data.results",
    "eigenseg.data.stages",
    "eigenseg.discovery",
    "eigenseg.discovery.backbones",
    "eigenseg.discovery.metrics",
    "eigenseg.discovery.spectral",
    "eigenseg.segment",
    "eigenseg.segment.deep_spectral",
    "eigenseg.segment.found",
    "eigenseg.segment.maskcut",
    "eigenseg.segment.metrics",
    "eigenseg.segment.parts",
    "eigenseg.segment.refine",
    "eigenseg.training",
    "eigenseg.video",
    "eigenseg.video.metrics",
)


def loaded_by(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after some code."""
    report = f"import sys, json\n{code}\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_eigenseg_loads_nothing() -> None:
    assert loaded_by("import eigenseg") == set()


def test_importing_the_solver_loads_torch_and_numpy_alone() -> None:
    assert loaded_by("from eigenseg.discovery.spectral import solve_ncut, build_affinity") == {"torch", "numpy"}


@pytest.mark.parametrize("command", ["extract", "evaluate", "train"])
def test_help_loads_hydra_and_no_torch(command: str) -> None:
    code = f"from eigenseg.cli.main import main\nassert main([{command!r}, '--help']) == 0"
    assert loaded_by(code) == {"hydra", "omegaconf"}


def test_version_and_usage_load_nothing() -> None:
    assert loaded_by("from eigenseg.cli.main import main\nmain(['--version'])\nmain(['--help'])\nmain(['fly'])") == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_loaded_and_is_listed(package: str) -> None:
    module = __import__(package, fromlist=["__all__"])
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No eigenseg attribute Nothing"):
        eigenseg.Nothing  # type: ignore[attr-defined]  # noqa: B018


def test_folders_are_the_same_modules_under_one_name() -> None:
    import eigenseg.data.instances

    assert eigenseg.Instances is eigenseg.data.instances.Instances
    assert "data" not in sys.modules
