"""Generators in rosinality's layout, the one that PyTorch's StyleGAN2 checkpoints have (and pSp's decoders).

Its names are those of ``stylegan2``. A modulated convolution's weight has a leading axis of one, and the fixed filters
are stored beside the weights: here they are checked and left out.

Axes: ``n`` rows that a file gives, ``k`` all rows, ``d`` width of a row. This module does not know what else lies in a
file (see ``foreign``).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from . import sizes
from .config import GeneratorConfig
from .errors import CheckpointError
from .ops import FIR
from .sampling import average_w
from .stylegan2 import StyleGAN2
from .weights import fill

MODULATED = re.compile(r"(decoder\.)?(conv1|to_rgb1|convs\.\d+|to_rgbs\.\d+)\.conv\.weight")


def generator(weights: Mapping[str, Tensor], average: Tensor | None, source: str) -> StyleGAN2:
    """The generator with these tensors (``plain``), ready to draw; ``average`` is ``[n d]``.

    Where there is no average, ``w_avg`` is that of 100,000 mapped samples. Raises CheckpointError when they do not fit.
    """
    config = sizes.generator(weights)
    with torch.device("meta"):
        made = StyleGAN2(config)
    fill(made, without_kernels(weights, config, "", source), source, given={"w_avg": torch.zeros(config.width)})
    set_average(made, average, source)
    return made.eval()


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

    Raises CheckpointError when one of them is another filter.
    """
    taps = torch.tensor(FIR)
    expected = taps[:, None] * taps * 4
    rest = dict(weights)
    for level in range(config.size.bit_length() - 3):
        for name in (f"{prefix}convs.{2 * level}.conv.blur.kernel", f"{prefix}to_rgbs.{level}.upsample.kernel"):
            kernel = rest.pop(name, expected)
            if kernel.shape != expected.shape or not torch.allclose(kernel.to(expected), expected, atol=1e-5):
                raise CheckpointError(f"{source}: {name} is not the filter [1, 3, 3, 1] that is read here")
    return rest


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
        if torch.equal(average, average[:1].expand_as(average)):
            generator.w_avg.copy_(average[0])
            return
    generator.w_avg.copy_(average_w(generator))
