"""Tests with real weights run with the right file, are skipped without one, and refuse any other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from real_weights import real_weights_file

from eigenseg.discovery import ViTBackbone

VARIABLE = "EIGENSEG_TEST_WEIGHTS"


def test_without_the_variable_a_test_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{VARIABLE} is not set"):
        real_weights_file()


def test_any_other_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    monkeypatch.setenv(VARIABLE, str(other))
    with pytest.raises(FileNotFoundError, match=re.escape(f"{VARIABLE}={other} is not a file")):
        real_weights_file()
    other.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="has sha256 .*, expected dc75e3dd"):
        real_weights_file()


@pytest.mark.weights
def test_every_parameter_is_loaded_and_none_is_random(real_weights: Path) -> None:
    # Loading is strict: a name or a shape that differs is an error. Two seeds agree where no parameter is left random.
    one, other = (ViTBackbone("vit_small_patch14_dinov2.lvd142m", str(real_weights), seed=seed) for seed in (0, 1))
    state = one.model.state_dict()
    assert sum(value.numel() for value in state.values()) == 22_056_192
    assert all(torch.equal(value, state[name]) for name, value in other.model.state_dict().items())
