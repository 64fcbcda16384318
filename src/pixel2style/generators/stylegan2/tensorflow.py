"""Generators of the official TensorFlow StyleGAN2 (configurations E and F) and of TensorFlow's StyleGAN2-ADA.

NVIDIA's PyTorch generator is the same network, so variables are renamed to its tensors (``nvidia``): axes change from
``[h w i o]`` to ``[o i h w]``, and biases of styles grow by 1. Weights of upsampling convolutions are rotated by 180
degrees: TensorFlow convolves the zero-stuffed map, PyTorch uses a transposed convolution.

TensorFlow is not needed. Axes: ``i o`` channels in and out, ``h w`` height and width, ``d`` width of a row.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ...errors import CheckpointError
from ...formats.state_dicts import printable
from .network import MAPPING_LR_MUL

VERSION = 4
"""Version of networks in TensorFlow's pickles since StyleGAN2; StyleGAN and Progressive GAN have lower ones."""

USUAL: dict[str, Any] = {
    "mapping_nonlinearity": "lrelu",
    "nonlinearity": "lrelu",
    "normalize_latents": True,
    "resample_kernel": [1, 3, 3, 1],
}
"""The supported values of these arguments, where a file has them."""

UNUSED = "lod"
"""A variable of every network that only progressive growing uses."""

Change = Callable[[Tensor], Tensor]


def _same(value: Tensor) -> Tensor:
    return value


def _transposed(value: Tensor) -> Tensor:
    """``[i o] -> [o i]``."""
    return value.T


def _kernel(value: Tensor) -> Tensor:
    """``[h w i o] -> [o i h w]``."""
    return value.permute(3, 2, 0, 1)


def _kernel_up(value: Tensor) -> Tensor:
    """``[h w i o] -> [o i h w]``, rotated by 180 degrees."""
    return _kernel(value.flip(0, 1))


LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb", "Skip": "skip"}
"""Names of a block's layers in PyTorch."""

PARTS: dict[str, tuple[str, int, Change]] = {
    "weight": ("weight", 4, _kernel),
    "bias": ("bias", 1, _same),
    "noise_strength": ("noise_strength", 0, _same),
    "mod_weight": ("affine.weight", 2, _transposed),
    "mod_bias": ("affine.bias", 1, lambda value: value + 1),
}
"""Of each variable of a layer: its name in PyTorch, its number of axes, and how its values change."""

_MAPPING = re.compile(r"mapping/(?:Dense(\d{1,3})|LabelEmbed)/(weight|bias)")
_NOISE = re.compile(r"synthesis/noise(\d{1,2})")
_BLOCK = re.compile(r"synthesis/(\d{1,5})x\1/(\w+)/(\w+)")


def state(variables: Mapping[str, Tensor], static: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The variables as the state dict of NVIDIA's PyTorch generator; ``static`` are the network's own arguments.

    Names are ``dlatent_avg``, and those of the components below ``mapping/`` and ``synthesis/``. Raises CheckpointError
    when they belong to another network than StyleGAN2.
    """
    _check(variables, static, source)
    tensors = {}
    for name, value in variables.items():
        if name == UNUSED:
            continue
        known = _renamed(name)
        if known is None:
            raise CheckpointError(f"{source}: holds {printable(name)}, which is not a variable of StyleGAN2")
        key, axes, change = known
        if value.ndim != axes:
            raise CheckpointError(f"{source}: {printable(name)} has {value.ndim} axes, not {axes} as in StyleGAN2")
        tensors[key] = change(value)
    return tensors


def arguments(static: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of NVIDIA's PyTorch generator for the same network, as far as no tensor shows them."""
    return {
        "mapping_kwargs": {"lr_multiplier": static.get("mapping_lrmul", MAPPING_LR_MUL)},
        "synthesis_kwargs": {"conv_clamp": static.get("conv_clamp")},
    }


def _renamed(name: str) -> tuple[str, int, Change] | None:
    """A variable's name in PyTorch, its number of axes, and how its values change; None for an unknown one."""
    if name == "dlatent_avg":
        return "mapping.w_avg", 1, _same
    if found := _MAPPING.fullmatch(name):
        layer = f"fc{found[1]}" if found[1] else "embed"
        return (f"mapping.{layer}.{found[2]}", *((2, _transposed) if found[2] == "weight" else (1, _same)))
    if found := _NOISE.fullmatch(name):
        place = int(found[1])
        block = f"synthesis.b{4 << (place + 1) // 2}"
        return f"{block}.conv{0 if place % 2 else 1}.noise_const", 4, lambda noise: noise.reshape(noise.shape[-2:])
    if found := _BLOCK.fullmatch(name):
        size, layer, part = found.groups()
        if (layer, part) == ("Const", "const"):
            return f"synthesis.b{size}.const", 4, lambda value: value.flatten(0, 1)
        if layer in LAYERS and part in PARTS:
            own, count, change = PARTS[part]
            change = _kernel_up if part == "weight" and layer in ("Conv0_up", "Skip") else change
            return f"synthesis.b{size}.{LAYERS[layer]}.{own}", count, change
    return None


def _check(variables: Mapping[str, Tensor], static: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for unsupported networks."""
    version = static.get("version")
    if isinstance(version, int) and version < VERSION:
        raise CheckpointError(
            f"{source}: is a TensorFlow network from before StyleGAN2 (StyleGAN or Progressive GAN), which is not "
            "supported"
        )
    if any("_lod" in name or name.endswith("/lod") or "/StyleMod/" in name for name in variables):
        raise CheckpointError(
            f"{source}: is a TensorFlow StyleGAN2 of configuration A to D (progressive growing); only E and F, the "
            "usual ones, are supported"
        )
    if any("LabelConcat/" in name for name in variables):
        raise CheckpointError(
            f"{source}: is a TensorFlow StyleGAN2 whose labels are not embedded as StyleGAN2-ADA's are, which is not "
            "supported"
        )
    for name, usual in USUAL.items():
        if name in static and static[name] is not None and static[name] != usual:
            raise CheckpointError(
                f"{source}: was built with {name} {printable(str(static[name]))}; only the usual {usual} is supported"
            )
