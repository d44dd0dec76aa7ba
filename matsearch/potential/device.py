"""Devices by name."""

from __future__ import annotations

import torch

from matsearch.errors import PotentialError


def torch_device(name: str) -> torch.device:
    """The torch device that a name stands for: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.

    Raises:
        PotentialError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unknown = PotentialError(f"unknown device {name!r}; use cpu, cuda, cuda:0, ... or auto")
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise unknown from err
    if device.type not in {"cpu", "cuda"}:
        raise unknown
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PotentialError(f"no device {name!r} here ({torch.cuda.device_count()} GPUs seen); use cpu or auto")
    return device
