"""Models in the layout of pSp's official code: an encoder, a decoder of rosinality's kind, an average, options.

Axes: ``k`` rows, ``d`` width of a row. This module does not know how a file is opened (see ``foreign``).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import encoders, rosinality, sizes
from .config import ModelConfig
from .errors import CheckpointError
from .model import PSP
from .stylegan2 import StyleGAN2
from .weights import below, fill

HEADS = (("latlayer1.", "pyramid.middle."), ("latlayer2.", "pyramid.fine."), ("styles.", "heads."))


def model(weights: Mapping[str, Tensor], average: Tensor | None, options: Mapping[str, Any], source: str) -> PSP:
    """The model with these tensors (``rosinality.plain``), the file's ``average`` ``[n d]`` and its training options.

    Raises CheckpointError when they do not fit.
    """
    generator = sizes.generator(below(weights, "decoder."))
    encoder = sizes.encoder(below(weights, "encoder."), generator)
    told = average is not None or options.get("start_from_latent_avg") is True
    with torch.device("meta"):
        drawer = StyleGAN2(generator)
        if (encoder.rows, encoder.width) != (drawer.rows, drawer.width):
            raise CheckpointError(
                f"{source}: its encoder writes {encoder.rows} rows of {encoder.width}, its {drawer.size}-pixel decoder "
                f"reads {drawer.rows} of {drawer.width}; the two do not belong together"
            )
        config = ModelConfig(encoder, generator, add_average=told)
        made = PSP(encoders.build(encoder), drawer, config, torch.zeros(drawer.width))
    blank = {
        "w_avg": torch.zeros(drawer.rows, drawer.width),
        "w_unit": torch.ones(drawer.width),
        "generator.w_avg": torch.zeros(drawer.width),
    }
    fill(made, rosinality.without_kernels(weights, generator, "decoder.", source), source, _official_name, blank)
    rosinality.set_average(drawer, average, source)
    made.w_avg.copy_(drawer.w_avg if average is None else rosinality.rows_of(average, drawer, source))
    return made.eval()


def _official_name(key: str) -> str:
    """What a tensor of PSP is called in an official file."""
    network, _, rest = key.partition(".")
    if network == "generator":
        return f"decoder.{rest}"
    for theirs, ours in HEADS:
        if rest.startswith(ours):
            return f"encoder.{theirs}{rest.removeprefix(ours)}"
    if rest.startswith("output."):
        return f"encoder.output_layer_2.{rest.removeprefix('output.')}"
    return f"encoder.{rest.removeprefix('trunk.')}"
