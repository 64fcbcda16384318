"""The device and the memory of this process."""

import contextlib
import ctypes
import sys
from typing import Literal

import torch

from .errors import ConfigError

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: Device) -> torch.device:
    """ "auto" is CUDA, else Apple's GPU, else the processor. Raises ConfigError for one that this machine lacks."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in there.items() if present))
    if not there[name]:
        raise ConfigError(f"there is no {name} device here: leave out --device, or pass --device cpu")
    return torch.device(name)


def keep_freed_memory() -> None:
    """Let the process keep what tensors have freed, for the next step's tensors, where the C library can be told so.

    Otherwise Linux hands out and clears the same pages at every step: a quarter of the time of a compact one.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def memory_gb(device: torch.device) -> float:
    """The most memory the process has held so far, in GB: of the GPU where it computes there, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return 0.0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on a Mac, else kilobytes
    return most / (1e9 if sys.platform == "darwin" else 1e6)
