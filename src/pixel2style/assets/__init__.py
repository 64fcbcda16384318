"""Bundled weights, found by name and read as float32.

Every file is ``assets/NAME.safetensors`` beside its card ``assets/NAME.md``. Weights are stored in fp16 or, for models,
in fewer bits (``formats.quantized``).
"""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all bundled files, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


def path(name: str) -> Path:
    """The file of ``name``. Raises CheckpointError when no such file is bundled."""
    file = FOLDER / f"{name}.safetensors"
    if not file.is_file():
        raise CheckpointError(f"no bundled weights are called {name!r}: choose one of {', '.join(names())}")
    return file


def read(name: str) -> dict[str, Tensor]:
    """The tensors of a bundled file, floating-point ones as float32."""
    with safe_open(path(name), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    return {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in tensors.items()}
