"""The device and the memory of this process."""

import contextlib
import ctypes
import functools
import os
import sys
from typing import Literal

import torch

from .errors import ConfigError

Device = str | torch.device
"""``auto``, ``cpu``, ``cuda``, ``cuda:N`` (the GPU of that number) or ``mps``; or PyTorch's device."""


Precision = Literal["auto", "fp32", "bf16"]
_BF16: dict[str, bool | None] = {"auto": None, "fp32": False, "bf16": True}


def bf16_of(precision: Precision) -> bool | None:
    """Whether a precision is bfloat16; None where the processor decides. Raises ConfigError for another."""
    if precision not in _BF16:
        raise ConfigError(f"{precision!r} is no precision: choose {', '.join(_BF16)}")
    return _BF16[precision]


def choose_device(name: Device) -> torch.device:
    """ "auto" is CUDA, else Apple's GPU, else the CPU. Raises ConfigError for a device that is not available."""
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return torch.device(next(kind for kind, count in counts.items() if count))
    kind, colon, number = str(name).partition(":")
    if kind not in counts or (colon and not (number.isascii() and number.isdigit())):
        raise ConfigError(f"{name!r} is no device: choose auto, cpu, cuda, cuda:1 or mps")
    if int(number or 0) >= counts[kind]:
        raise ConfigError(f"there is no {name} device here: leave out --device, or pass --device cpu")
    return torch.device(name)


CRAWLING = 10.0
"""Seconds for one photograph from which on a busy machine is worth a note."""
SPINS = 20_000
"""``GOMP_SPINCOUNT`` from which on waiting threads take the processor from others for long."""


def crawling(seconds: float) -> str:
    """What to say and do where a photograph took ``seconds`` because the machine is busy; "" where it did not."""
    if seconds < CRAWLING or not hasattr(os, "getloadavg"):
        return ""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < processors + 1:
        return ""
    said = f"{seconds:.0f} s for one photograph, since other programs want the processors, too (load {load:.0f} on "
    said += f"{processors}): stop them or wait; "
    waits = {key: os.environ[key] for key in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if key in os.environ}
    spins = waits.get("GOMP_SPINCOUNT", "0")
    if waits.get("OMP_WAIT_POLICY", "").lower() == "active" or not spins.isdecimal() or int(spins) > SPINS:
        return said + f"unset {' and '.join(waits)}, by which threads that wait take processors from those that work"
    return said + "invert --refine 0 --no-detail computes least"


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of glibc's ``mallopt``."""


@functools.cache
def keep_freed_memory() -> None:
    """Make the C library's allocator (glibc) keep freed memory for later tensors.

    By default, large buffers are returned to Linux and their pages cleared again at every training step, which takes a
    quarter of the time of a compact one.
    """
    _allocator("mallopt", _MMAP_MAX, 0)
    _allocator("mallopt", _TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give freed memory back to Linux, also what ``keep_freed_memory`` keeps.

    It takes 10 ms; what is computed next is 20 ms slower. Without it, a server whose requests run in changing threads
    grows for a long time, though it leaks nothing: each thread's heap keeps what was freed in it.
    """
    _allocator("malloc_trim", 0)


def _allocator(function: str, *values: int) -> None:
    """Call a function of glibc; there is none of them elsewhere."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*values)


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


@functools.cache
def survive_fork() -> None:
    """Let processes that are forked from this one compute, with one thread each.

    OpenMP's other threads do not exist in a forked process, and PyTorch would wait for them forever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
