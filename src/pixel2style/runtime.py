"""The device and the memory of this process."""

import contextlib
import ctypes
import sys
from typing import Literal

import torch

from .errors import ConfigError

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: Device) -> torch.device:
    """ "auto" is CUDA, else Apple's GPU, else the CPU. Raises ConfigError for a device that is not available."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in available.items() if present))
    if not available[name]:
        raise ConfigError(f"there is no {name} device here: leave out --device, or pass --device cpu")
    return torch.device(name)


def keep_freed_memory() -> None:
    """Make the C library's allocator (glibc) keep freed memory for later tensors.

    By default, large buffers are returned to Linux and their pages cleared again at every training step, which takes a
    quarter of the time of a compact one.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def memory_gb(device: torch.device) -> float:
    """Peak memory of the process in GB: GPU memory for a CUDA device, else RAM (0 on Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, else kilobytes
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def fast_in_bf16(device: torch.device) -> bool:
    """Whether a device is a processor with instructions for bfloat16."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # there is no public function
    return device.type == "cpu" and supported is not None and bool(supported())
