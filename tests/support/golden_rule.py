"""Draw the weights and inputs of the golden figures again, by the rule that made them.

A tensor's numbers come from its name alone: the key seeds the generator. Figures and manifests lie in ``tests/golden``.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.support.paths import GOLDEN


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    key = zlib.crc32(name.encode())
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape).astype(np.float32)


def arr(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """The input called ``name``: normal numbers times ``scale``."""
    key = zlib.crc32(name.encode())
    numbers = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape) * scale
    return torch.from_numpy(numbers.astype(np.float32))


def img(name: str, *shape: int) -> Tensor:
    """The picture called ``name``, in [-1, 1]."""
    return arr(name, *shape, scale=0.5).clamp(-1, 1)


def weights(manifest_path: str | Path, drawn: Mapping[str, Tensor] = MappingProxyType({})) -> dict[str, Tensor]:
    """The state dict a manifest describes. A bare name is looked up in ``tests/golden``.

    Tensors of the same name and shape in ``drawn`` are taken from there: drawing the largest takes seconds.
    """
    path = GOLDEN / manifest_path
    if not path.name.endswith(".json"):
        path = path.with_name(f"{path.name}.manifest.json")
    wanted = json.loads(path.read_text())
    return {
        key: drawn[key] if key in drawn and list(drawn[key].shape) == how.get("shape") else _tensor(key, how)
        for key, how in wanted.items()
    }


def _tensor(key: str, how: dict) -> Tensor:
    if "fixed" in how:
        return torch.tensor(how["fixed"], dtype=torch.float32).reshape(how["shape"])
    if "dtype" in how:
        return torch.zeros(how["shape"], dtype=getattr(torch, how["dtype"]))
    spread = np.float32(how["std"]) * _normal(key, tuple(how["shape"]))
    if how.get("abs"):
        spread = np.abs(spread)
    return torch.from_numpy(np.asarray(np.float32(how["mean"]) + spread))


def figures(name: str) -> dict[str, Tensor]:
    """The arrays of ``tests/golden/NAME.npz``."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def small(image: Tensor) -> Tensor:
    """``[b c h w] -> [b c 64 64]`` by area, as the figures store pictures."""
    return functional.adaptive_avg_pool2d(image, 64)


def relative_error(a: Tensor, b: Tensor) -> float:
    """The norm of a - b over the norm of b."""
    if a.shape != b.shape:
        raise AssertionError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())
