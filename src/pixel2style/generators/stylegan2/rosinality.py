"""StyleGAN2 generators in the layout of rosinality's stylegan2-pytorch, which pSp's decoders have too.

Names are those of ``network``. Weights of modulated convolutions have a leading axis of one, and constant filters are
stored beside the weights; they are checked and left out. Files of the first versions hold no noise, which was random
for every image: such a generator gets constant noise with seed 0.

Axes: ``n`` rows of an average in a file, ``k`` rows of the generator, ``d`` width of a row.
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
from ..base import Generator
from ..sampling import average_w
from . import sizes
from .network import StyleGAN2, channels_of

MODULATED = re.compile(r"(decoder\.)?(conv1|to_rgb1|convs\.\d+|to_rgbs\.\d+)\.conv\.weight")


def generator(weights: Mapping[str, Tensor], average: Tensor | None, source: str) -> StyleGAN2:
    """The generator with these tensors (``plain``) and the average ``[n d]``, in eval mode.

    Without an average, ``w_avg`` is that of 100,000 samples. Raises CheckpointError when they do not fit.
    """
    config = sizes.generator(weights)
    with shapes_only():
        generator = StyleGAN2(config)
    missing = noises(generator, weights)
    given = {"w_avg": torch.zeros(config.width), **missing}
    fill(generator, without_kernels(weights, config, "", source), source, given=given)
    draw(missing)
    set_average(generator, average, source)
    return generator.eval()


def noises(generator: StyleGAN2, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Uninitialised noise tensors by name where ``weights`` have none, for ``draw`` to fill; else an empty dict."""
    if any(key.startswith("noises.") for key in weights):
        return {}
    return {key: torch.empty(noise.shape) for key, noise in generator.noises.named_buffers("noises")}


def draw(noises: Mapping[str, Tensor]) -> None:
    """Fill noise with random numbers of seed 0."""
    rng = torch.Generator().manual_seed(0)
    for noise in noises.values():
        noise.normal_(generator=rng)


def state(generator: StyleGAN2) -> dict[str, Any]:
    """The content of a file for rosinality's code and what builds on it: ``g_ema`` and ``latent_avg`` ``[d]``.

    Raises ConfigError for a generator that this code cannot build.
    """
    refuse(generator)
    own = generator.state_dict()
    average = _copy(own.pop("w_avg"))
    weights = {key: _copy(value[None] if MODULATED.fullmatch(key) else value) for key, value in own.items()}
    kernels = {name: _kernel() for name in _kernels(generator.config, "")}
    return {"g_ema": weights | kernels, "latent_avg": average}


def refuse(generator: StyleGAN2) -> None:
    """Raise ConfigError for a generator that rosinality's code cannot build."""
    config = generator.config
    unsupported = {
        "takes labels": config.classes > 0,
        "clamps its features": config.clamp is not None,
        f"maps {generator.noise_width} numbers to {config.width}": generator.noise_width != config.width,
        f"has {', '.join(map(str, channels_of(config)))} channels": sizes.multiplier(channels_of(config)) is None,
    }
    for what, present in unsupported.items():
        if present:
            raise ConfigError(
                f"this generator {what}, which rosinality's layout does not support: choose nvidia-state, or our own "
                "format"
            )


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float32, copy=True)


def plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with weights of modulated convolutions without their leading axis of one."""
    return {
        key: value[0] if value.ndim == 5 and len(value) == 1 and MODULATED.fullmatch(key) else value
        for key, value in weights.items()
    }


def without_kernels(
    weights: Mapping[str, Tensor], config: GeneratorConfig, prefix: str, source: str
) -> dict[str, Tensor]:
    """``weights`` without the upsampling filters, which are constant.

    Raises CheckpointError when one of them has other values, or when images are not square.
    """
    start = weights.get(f"{prefix}input.input")
    if start is not None and start.ndim == 4 and start.shape[2:] != (4, 4):
        height, width = start.shape[2:]
        raise CheckpointError(
            f"{source}: starts from a constant of {height}x{width}; only 4x4, for square images, is supported"
        )
    expected = _kernel()
    rest = dict(weights)
    for name in _kernels(config, prefix):
        kernel = rest.pop(name, expected)
        if not is_constant(kernel, expected, 1e-5):
            raise CheckpointError(f"{source}: {name} is not [1, 3, 3, 1], the only supported filter")
    return rest


def _kernel() -> Tensor:
    taps = torch.tensor(FIR)
    return torch.outer(taps, taps) * 4


def _kernels(config: GeneratorConfig, prefix: str) -> list[str]:
    """Names of the upsampling filters."""
    levels = range(config.size.bit_length() - 3)
    names = [(f"convs.{2 * level}.conv.blur.kernel", f"to_rgbs.{level}.upsample.kernel") for level in levels]
    return [f"{prefix}{name}" for pair in names for name in pair]


def rows_of(average: Tensor, generator: Generator, source: str) -> Tensor:
    """``[n d] -> [k d]``. Raises CheckpointError unless the average has one row or all rows."""
    if len(average) not in (1, generator.rows) or average.shape[1] != generator.width:
        wanted = [generator.rows, generator.width]
        raise CheckpointError(f"{source}: latent_avg has shape {list(average.shape)}, not {wanted}")
    return average.expand(generator.rows, -1)


def set_average(generator: StyleGAN2, average: Tensor | None, source: str) -> None:
    """Set ``w_avg``: from ``average`` where its rows are equal, else to the mean of mapped samples."""
    if average is not None:
        average = rows_of(average, generator, source)
        if average.is_meta or torch.equal(average, average[:1].expand_as(average)):
            generator.w_avg.copy_(average[0])
            return
    generator.w_avg.copy_(average_w(generator))
