"""Safetensors files: recognise, read and write."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from ..files import replacing

_BROKEN = (SafetensorError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, MemoryError, OSError)
"""What reading damaged bytes may raise."""


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is safetensors: by the brace that opens its header or, where it has none, by its suffix."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)[8:] == b"{" or Path(path).suffix == ".safetensors"
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises CheckpointError where it is none or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except _BROKEN as error:
        raise _damaged(path) from error


def read(path: str | Path, numbers: bool = True) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped, on the CPU; without ``numbers``, as meta tensors.

    Raises CheckpointError where it is none or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            if numbers:
                return {key: file.get_tensor(key) for key in keys}
            return {key: _meta(file.get_slice(key)) for key in keys}
    except _BROKEN as error:
        raise _damaged(path) from error


def write(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as one file, whole or not at all. Raises OutputError when it cannot be written."""
    with replacing(Path(path)) as part:
        try:
            save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, part, dict(metadata or {}))
        except SafetensorError as error:  # on a full disk
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code)) from error


def _meta(part: Any) -> Tensor:
    """A meta tensor of the shape of a stored one, of an integer or a floating-point type as that is."""
    dtype = torch.int64 if part.get_dtype()[0] in "IUB" and part.get_dtype() != "BF16" else torch.float32
    return torch.empty(part.get_shape(), dtype=dtype, device="meta")


def _damaged(path: str | Path) -> CheckpointError:
    return CheckpointError(f"{path}: is no safetensors file, or is damaged; copy or convert it again")
