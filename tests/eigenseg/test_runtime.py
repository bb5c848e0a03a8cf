"""Devices and threads are those that were asked for, or an error that names the choices."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from importlib.metadata import requires

import pytest
import torch

from eigenseg import __version__
from eigenseg.runtime import choose_device, limit_threads, versions


@pytest.fixture
def threads() -> Iterator[int]:
    """The number of torch's threads, restored afterwards."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta"])
def test_a_device_that_is_not_there_is_rejected_by_name(device: str) -> None:
    with pytest.raises(ValueError, match=f"device {device} is not available; available are auto, cpu"):
        choose_device(device)


def test_the_choice_of_auto_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        device = choose_device("auto")
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert f"device {device} (runtime.device=auto)" in caplog.text


def test_threads_are_limited_only_on_request(threads: int) -> None:
    limit_threads(None)
    assert torch.get_num_threads() == threads
    limit_threads(1)
    assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="runtime.threads must be at least 1, got 0"):
        limit_threads(0)


def test_versions_name_this_package_and_what_results_depend_on() -> None:
    assert versions()["eigenseg"] == __version__
    assert versions()["torch"] == torch.__version__.partition("+")[0]
    assert {"python", "timm", "numpy", "scipy"} <= versions().keys()


def test_versions_name_every_required_package_that_results_depend_on() -> None:
    # Drawing, templates, locks, lazy imports, typed json and the format of weights change no number.
    others = {"matplotlib", "rich", "jinja2", "filelock", "lazy-loader", "msgspec", "safetensors"}
    required = {
        re.split(r"[^A-Za-z0-9_-]", line)[0].replace("_", "-") for line in requires("eigenseg") or () if ";" not in line
    }
    assert required - others <= versions().keys()
    assert "faster-coco-eval" in versions()
