"""What a model is, as data: frozen, validated, free of torch.

A configuration is what a checkpoint carries in its metadata and what rebuilds the networks before their weights are
read. It does not know where weights lie, nor how a model is trained.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")
Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, config=_STRICT)
class GeneratorConfig:
    """A generator with rows of ``width`` numbers that draws ``size`` x ``size`` pixels."""

    kind: Literal["stylegan2", "mobilestylegan"] = "stylegan2"
    size: Positive = 1024
    width: Positive = 512
    mapping_layers: Positive = 8
    channel_multiplier: Positive = 2


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig:
    """A network from a picture to rows (pSp, section 3).

    ``heads``: "separate" gives every row its own convolutions (the paper); "shared" gives every pyramid level one
    stride-2 tower that ends ``tower_width`` wide, and every row two layers on it, ``head_width`` wide between them (the
    compact models). ``neck`` counts residual units behind the trunk's last map.
    """

    kind: Literal["pyramid", "single_w", "last_layer"] = "pyramid"
    trunk: Literal["ir_se50", "mobilefacenet"] = "ir_se50"
    input_channels: Positive = 3
    input_size: Positive = 256
    rows: Positive = 18
    width: Positive = 512
    pyramid_width: Positive = 512
    heads: Literal["separate", "shared"] = "separate"
    tower_width: Positive = 512
    head_width: Positive = 512
    neck: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """An encoder, the generator that spends its rows, and how they meet.

    ``add_average``: the encoder says how far the rows are from the average (every released model), not where they are.
    ``feedback``: the encoder also sees its current reconstruction, three more channels, starting from the average
    picture, and corrects itself for ``iterations`` looks (ReStyle, arXiv 2104.02699).
    """

    encoder: EncoderConfig
    generator: GeneratorConfig
    add_average: bool = True
    feedback: bool = False
    iterations: Positive = 1
