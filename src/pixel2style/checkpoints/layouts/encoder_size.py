"""Sizes of published encoders, read off the shapes of their tensors and never off what a file says of itself.

A tensor that is missing, or a senseless index, makes a guess: whoever fills the network then says what does not fit.
Keys are those of pSp's encoders, without their prefix.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...config import EncoderConfig, GeneratorConfig
from ...generators.stylegan2.sizes import MAX_DOUBLINGS, highest, length_of

MAX_STRIDES = 6
"""Beyond these an index in a key is nonsense: inputs of 1024 pixels."""


def encoder(weights: Mapping[str, Tensor], drawer: GeneratorConfig) -> EncoderConfig:
    """What an encoder with these tensors, that belongs to ``drawer``, is; rows that are deltas look like others."""
    resnet = "conv1.weight" in weights
    stem = weights.get("conv1.weight" if resnet else "input_layer.0.weight")
    common: dict[str, Any] = {
        "trunk": "resnet34" if resnet else "ir_se50",
        "input_channels": max(1, stem.shape[1]) if stem is not None and stem.ndim == 4 else 3,
    }
    if "linear.weight" not in weights:
        strides = highest(weights, r"styles\.0\.convs\.(\d+)\..*") // 2 + 1
        return EncoderConfig(
            kind="pyramid" if "latlayer1.weight" in weights else "top",
            input_size=16 << min(max(strides, 1), MAX_STRIDES),
            rows=min(max(highest(weights, r"styles\.(\d+)\..*") + 1, 1), 2 * MAX_DOUBLINGS + 2),
            width=length_of(weights, "styles.0.linear.bias", drawer.width),
            pyramid_width=length_of(weights, "latlayer1.bias", EncoderConfig.pyramid_width),
            **common,
        )
    numbers = length_of(weights, "linear.bias", drawer.width)
    if any(key.startswith("output_layer_2.") for key in weights):
        rows = max(1, numbers // drawer.width)
        return EncoderConfig(kind="last_layer", rows=rows, width=drawer.width, **common)
    rows = 2 * (drawer.size.bit_length() - 1) - 2
    return EncoderConfig(kind="single_w", rows=rows, width=numbers, **common)
