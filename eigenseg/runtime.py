"""The machine a command runs on: its device, its threads, and the versions of what is installed."""

from __future__ import annotations

import contextlib
import logging
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from threadpoolctl import threadpool_limits

from eigenseg._version import __version__

logger = logging.getLogger(__name__)

# Everything that computes or decodes a part of the results.
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "opencv-python-headless",
    "pillow",
    "av",
    "faster-coco-eval",
    "segment-anything",
    "hydra-core",
)


def choose_device(name: str) -> torch.device:
    """Turn a name into a device that exists.

    Args:
        name: ``"auto"`` (CUDA if there is one, else CPU; logged), or anything ``torch.device`` knows.

    Raises:
        ValueError: if the name is unknown or the machine has no such device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        logger.info("device %s (runtime.device=auto)", device)
        return device
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the meta device, for one, holds no values
    except (RuntimeError, AssertionError, NotImplementedError):
        available = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(f"device {name} is not available; available are {', '.join(available)}") from None
    return device


def limit_threads(threads: int | None) -> None:
    """Restrict torch and BLAS to a number of CPU threads; ``None`` leaves them.

    Raises:
        ValueError: if the number is not positive.
    """
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"runtime.threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def versions() -> dict[str, str]:
    """Versions of eigenseg, Python and the packages that results depend on."""
    installed = {"eigenseg": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # another build of OpenCV, for instance, does as well
            installed[name] = version(name)
    return installed
