"""Importing eigenseg loads nothing, and every advertised name is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import eigenseg


def test_importing_eigenseg_loads_neither_torch_nor_hydra_nor_numpy() -> None:
    code = "import eigenseg, sys; print([m for m in ('torch', 'hydra', 'omegaconf', 'timm', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_loaded_and_is_listed() -> None:
    for name in eigenseg.__all__:
        assert getattr(eigenseg, name) is not None
        assert name in dir(eigenseg)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No eigenseg attribute Nothing"):
        eigenseg.Nothing  # noqa: B018


def test_folders_are_the_same_modules_under_one_name() -> None:
    import eigenseg.data.instances

    assert eigenseg.Instances is eigenseg.data.instances.Instances
    assert "data" not in sys.modules
