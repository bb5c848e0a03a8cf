"""Devices and processes: lightning-fabric, alone or under torchrun."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch

_PACKAGES = {"lightning_fabric": "lightning-fabric", "tensorboard": "tensorboard"}


def check_installed() -> None:
    """Raise if what training needs is not installed.

    Raises:
        ValueError: saying how to install it.
    """
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ValueError(f"training needs {' and '.join(missing)}, not installed here: pip install 'eigenseg[train]'")


def launch_fabric(device: torch.device, precision: str = "32-true") -> Any:
    """A launched ``Fabric`` on one device, or on one device a process under torchrun (gloo on CPUs, NCCL on GPUs).

    Args:
        device: to train on; of several processes each takes the CPU or its own GPU.
        precision: of Fabric.

    Raises:
        ValueError: if lightning-fabric is not installed, or there are more processes than GPUs.
    """
    check_installed()
    from lightning_fabric import Fabric

    processes = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    accelerator: Any = device.type
    fixed: Any = precision
    if processes == 1:
        devices: Any = [device.index or 0] if device.type == "cuda" else 1
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=fixed)
    else:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        if device.type == "cuda" and here > torch.cuda.device_count():
            raise ValueError(f"{here} processes on this machine need as many GPUs, it has {torch.cuda.device_count()}")
        many: Any = {"strategy": "ddp", "devices": here, "num_nodes": processes // here}
        fabric = Fabric(accelerator=accelerator, precision=fixed, **many)
    fabric.launch()
    return fabric
