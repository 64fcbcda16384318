"""Safetensors files: recognised, read and written."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is safetensors, by the brace that opens its header or, where it has no such, by its name."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)[8:] == b"{" or Path(path).suffix == ".safetensors"
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors, not reading them. Raises CheckpointError for no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path) from error


def read_safetensors(path: str | Path, numbers: bool = True) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped from it, on the CPU, or without ``numbers`` meta ones.

    Raises CheckpointError for no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            if numbers:
                return {key: file.get_tensor(key) for key in keys}
            return {key: _outlined(file.get_slice(key)) for key in keys}
    except (SafetensorError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path) from error


def _outlined(part: Any) -> Tensor:
    """A tensor of a safetensors file without its numbers: it says whether these would be whole ones."""
    kind = torch.int64 if part.get_dtype()[0] in "IUB" and part.get_dtype() != "BF16" else torch.float32
    return torch.empty(part.get_shape(), dtype=kind, device="meta")


def _damaged(path: str | Path) -> CheckpointError:
    return CheckpointError(f"{path}: is no safetensors file, or is damaged; copy or convert it again")
