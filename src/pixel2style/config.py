"""What a model is, as data: frozen, validated, free of torch.

A configuration is what a checkpoint carries in its metadata and what rebuilds the networks before their weights are
read. It does not know where weights lie, nor how a model is trained.
"""

from dataclasses import field
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")
Positive = Field(gt=0)


@dataclass(frozen=True, config=_STRICT)
class GeneratorConfig:
    """A generator with rows of ``width`` numbers that draws ``size`` x ``size`` pixels."""

    kind: Literal["stylegan2", "mobilestylegan"] = "stylegan2"
    size: int = field(default=1024)
    width: int = 512
    mapping_layers: int = 8
    channel_multiplier: int = 2


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig:
    """A network from a picture to rows (pSp, section 3).

    ``heads``: "separate" gives every row its own convolutions (the paper); "shared" gives every pyramid level one
    stride-2 tower and every row a small two-layer head on it (the compact models).
    """

    kind: Literal["pyramid", "single_w", "last_layer"] = "pyramid"
    trunk: Literal["ir_se50", "ir_se101", "mobilefacenet"] = "ir_se50"
    input_channels: int = 3
    input_size: int = 256
    rows: int = 18
    width: int = 512
    pyramid_width: int = 512
    heads: Literal["separate", "shared"] = "separate"


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """An encoder, the generator that spends its rows, and how often the encoder looks again.

    ``iterations`` above 1 (ReStyle, arXiv 2104.02699) feeds the encoder the picture and its current reconstruction,
    six channels, starting from the average image.
    """

    encoder: EncoderConfig
    generator: GeneratorConfig
    iterations: int = 1
