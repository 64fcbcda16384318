"""Generators in rosinality's layout, the one that PyTorch's StyleGAN2 checkpoints have (and pSp's decoders).

Its names are those of ``stylegan2``. A modulated convolution's weight has a leading axis of one, and the fixed filters
are stored beside the weights: here they are checked and left out. Files of the code's first versions hold no noise,
which was then drawn anew for every picture: such a generator gets noise by the seed 0, the same on every loading.

Axes: ``n`` rows that a file gives, ``k`` all rows, ``d`` width of a row. This module does not know what else lies in a
file (see ``foreign``).
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...config import GeneratorConfig
from ...errors import CheckpointError, ConfigError
from ...formats.meta_device import shapes_only
from ...formats.state_dicts import fill, is_constant
from ...ops import FIR
from ..sampling import average_w
from . import sizes
from .network import StyleGAN2, channels_of

MODULATED = re.compile(r"(decoder\.)?(conv1|to_rgb1|convs\.\d+|to_rgbs\.\d+)\.conv\.weight")


def generator(weights: Mapping[str, Tensor], average: Tensor | None, source: str) -> StyleGAN2:
    """The generator with these tensors (``plain``), ready to draw; ``average`` is ``[n d]``.

    Where there is no average, ``w_avg`` is that of 100,000 mapped samples. Raises CheckpointError when they do not fit.
    """
    config = sizes.generator(weights)
    with shapes_only():
        made = StyleGAN2(config)
    blank = noises(made, weights)
    given = {"w_avg": torch.zeros(config.width), **blank}
    fill(made, without_kernels(weights, config, "", source), source, given=given)
    draw(blank)
    set_average(made, average, source)
    return made.eval()


def noises(generator: StyleGAN2, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Room for the noise of a generator, by its names, where ``weights`` have none; what is in it is ``draw``'s."""
    if any(key.startswith("noises.") for key in weights):
        return {}
    return {key: torch.empty(noise.shape) for key, noise in generator.noises.named_buffers("noises")}


def draw(noises: Mapping[str, Tensor]) -> None:
    """Fill noise, with the same numbers on every call."""
    rng = torch.Generator().manual_seed(0)
    for noise in noises.values():
        noise.normal_(generator=rng)


def state(generator: StyleGAN2) -> dict[str, Any]:
    """The content of a file that rosinality's code, and what builds on it, reads: ``g_ema`` and ``latent_avg`` ``[d]``.

    Raises ConfigError for what that code has no room for.
    """
    refuse(generator)
    own = generator.state_dict()
    average = _copy(own.pop("w_avg"))
    found = {key: _copy(value[None] if MODULATED.fullmatch(key) else value) for key, value in own.items()}
    kernels = {name: _kernel() for name in _kernels(generator.config, "")}
    return {"g_ema": found | kernels, "latent_avg": average}


def refuse(generator: StyleGAN2) -> None:
    """Raise ConfigError where rosinality's code has no room for a generator."""
    config = generator.config
    usual = sizes.multiplier(channels_of(config))
    lacking = {
        "takes labels": config.classes > 0,
        "clamps its features": config.clamp is not None,
        f"maps {generator.noise_width} numbers to {config.width}": generator.noise_width != config.width,
        f"has {', '.join(map(str, channels_of(config)))} channels": usual is None,
    }
    for what, present in lacking.items():
        if present:
            raise ConfigError(
                f"this generator {what}, and rosinality's layout has no room for that: choose nvidia-state, or our own "
                "format"
            )


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float32, copy=True)


def plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, modulated weights without their leading axis of one."""
    return {
        key: value[0] if value.ndim == 5 and len(value) == 1 and MODULATED.fullmatch(key) else value
        for key, value in weights.items()
    }


def without_kernels(
    weights: Mapping[str, Tensor], config: GeneratorConfig, prefix: str, source: str
) -> dict[str, Tensor]:
    """``weights`` less the upsampling filters, which are the same in every network read here.

    Raises CheckpointError when one of them is another filter, or when the pictures are not square.
    """
    start = weights.get(f"{prefix}input.input")
    if start is not None and start.ndim == 4 and start.shape[2:] != (4, 4):
        height, width = start.shape[2:]
        raise CheckpointError(
            f"{source}: draws from a constant of {height}x{width}; only square pictures, from 4x4, are drawn here"
        )
    expected = _kernel()
    rest = dict(weights)
    for name in _kernels(config, prefix):
        kernel = rest.pop(name, expected)
        if not is_constant(kernel, expected, 1e-5):
            raise CheckpointError(f"{source}: {name} is not the filter [1, 3, 3, 1] that is read here")
    return rest


def _kernel() -> Tensor:
    taps = torch.tensor(FIR)
    return torch.outer(taps, taps) * 4


def _kernels(config: GeneratorConfig, prefix: str) -> list[str]:
    """The names of the upsampling filters."""
    levels = range(config.size.bit_length() - 3)
    names = [(f"convs.{2 * level}.conv.blur.kernel", f"to_rgbs.{level}.upsample.kernel") for level in levels]
    return [f"{prefix}{name}" for pair in names for name in pair]


def rows_of(average: Tensor, generator: StyleGAN2, source: str) -> Tensor:
    """``[n d] -> [k d]``. Raises CheckpointError where neither one row nor all rows are given."""
    if len(average) not in (1, generator.rows) or average.shape[1] != generator.width:
        wanted = [generator.rows, generator.width]
        raise CheckpointError(f"{source}: latent_avg has shape {list(average.shape)}, not {wanted}")
    return average.expand(generator.rows, -1)


def set_average(generator: StyleGAN2, average: Tensor | None, source: str) -> None:
    """Fill ``w_avg``: from the file where it says one vector, else by averaging mapped samples."""
    if average is not None:
        average = rows_of(average, generator, source)
        if average.is_meta or torch.equal(average, average[:1].expand_as(average)):
            generator.w_avg.copy_(average[0])
            return
    generator.w_avg.copy_(average_w(generator))
