"""Generators of the official TensorFlow StyleGAN2 (configurations E and F) and of TensorFlow's StyleGAN2-ADA.

The network is the one that NVIDIA wrote again for PyTorch, so variables become that layout's tensors: axes go from
``[h w i o]`` to ``[o i h w]``, and a style's bias is 1 less there. Where a convolution doubles the picture, the weight
is turned by half a circle: TensorFlow's meets the spread-out picture as it is stored, PyTorch's (a transposed
convolution) the other way round.

Axes: ``i o`` channels in and out, ``h w`` height and width, ``d`` width of a row. This module needs no TensorFlow and
does not know how a file is read (see ``pickles``).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ...errors import CheckpointError
from ...formats.state_dicts import spell
from .network import MAPPING_LR_MUL

VERSION = 4
"""Of TensorFlow's networks in pickles, since StyleGAN2; earlier ones are StyleGAN's and Progressive GAN's."""

USUAL: dict[str, Any] = {
    "mapping_nonlinearity": "lrelu",
    "nonlinearity": "lrelu",
    "normalize_latents": True,
    "resample_kernel": [1, 3, 3, 1],
}
"""What every generator read here was built with, where it says it at all."""

UNUSED = "lod"
"""A variable of every whole network, which only StyleGAN's growing generators look at."""

Change = Callable[[Tensor], Tensor]


def _same(value: Tensor) -> Tensor:
    return value


def _turned(value: Tensor) -> Tensor:
    """``[i o] -> [o i]``."""
    return value.T


def _kernel(value: Tensor) -> Tensor:
    """``[h w i o] -> [o i h w]``."""
    return value.permute(3, 2, 0, 1)


def _kernel_up(value: Tensor) -> Tensor:
    """``[h w i o] -> [o i h w]``, turned by half a circle."""
    return _kernel(value.flip(0, 1))


LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb", "Skip": "skip"}
"""What the layers of a block are called in PyTorch."""

PARTS: dict[str, tuple[str, int, Change]] = {
    "weight": ("weight", 4, _kernel),
    "bias": ("bias", 1, _same),
    "noise_strength": ("noise_strength", 0, _same),
    "mod_weight": ("affine.weight", 2, _turned),
    "mod_bias": ("affine.bias", 1, lambda value: value + 1),
}
"""What the variables of a layer are called in PyTorch, how many axes they have, and what becomes of them."""

_MAPPING = re.compile(r"mapping/(?:Dense(\d{1,3})|LabelEmbed)/(weight|bias)")
_NOISE = re.compile(r"synthesis/noise(\d{1,2})")
_BLOCK = re.compile(r"synthesis/(\d{1,5})x\1/(\w+)/(\w+)")


def state(variables: Mapping[str, Tensor], told: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The variables as the state dict of NVIDIA's PyTorch generator; ``told`` is what their network was built with.

    Names are ``dlatent_avg``, and those of the components below ``mapping/`` and ``synthesis/``. Raises CheckpointError
    when they belong to another network than StyleGAN2's.
    """
    _check(variables, told, source)
    made = {}
    for name, value in variables.items():
        if name == UNUSED:
            continue
        known = _renamed(name)
        if known is None:
            raise CheckpointError(f"{source}: holds {spell(name)}, which is no variable of the StyleGAN2 read here")
        key, axes, change = known
        if value.ndim != axes:
            raise CheckpointError(f"{source}: {spell(name)} has {value.ndim} axes, and {axes} in StyleGAN2")
        made[key] = change(value)
    return made


def arguments(told: Mapping[str, Any]) -> dict[str, Any]:
    """What NVIDIA's PyTorch generator would have been built with, as far as no tensor shows it."""
    return {
        "mapping_kwargs": {"lr_multiplier": told.get("mapping_lrmul", MAPPING_LR_MUL)},
        "synthesis_kwargs": {"conv_clamp": told.get("conv_clamp")},
    }


def _renamed(name: str) -> tuple[str, int, Change] | None:
    """PyTorch's name of a variable, its axes here, what becomes of it; None for one that is not known."""
    if name == "dlatent_avg":
        return "mapping.w_avg", 1, _same
    if found := _MAPPING.fullmatch(name):
        layer = f"fc{found[1]}" if found[1] else "embed"
        return (f"mapping.{layer}.{found[2]}", *((2, _turned) if found[2] == "weight" else (1, _same)))
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


def _check(variables: Mapping[str, Tensor], told: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for networks that are not drawn here, by what they are."""
    version = told.get("version")
    if isinstance(version, int) and version < VERSION:
        raise CheckpointError(
            f"{source}: is a TensorFlow network of the time before StyleGAN2 (StyleGAN or Progressive GAN), which is "
            "not read here"
        )
    if any("_lod" in name or name.endswith("/lod") or "/StyleMod/" in name for name in variables):
        raise CheckpointError(
            f"{source}: is a TensorFlow StyleGAN2 of configuration A to D, which grows in steps; only E and F, the "
            "usual ones, are read here"
        )
    if any("LabelConcat/" in name for name in variables):
        raise CheckpointError(
            f"{source}: is a TensorFlow StyleGAN2 with labels that are not embedded, as StyleGAN2-ADA's are; such is "
            "not read here"
        )
    for name, usual in USUAL.items():
        if name in told and told[name] is not None and told[name] != usual:
            raise CheckpointError(
                f"{source}: was built with {name} {spell(str(told[name]))}; only {usual}, the usual one, is read here"
            )
