"""Parts of a model as functions of one tensor, ready to be traced: with example inputs and a description.

Axes: ``b`` batch, ``c`` channels, ``s`` side of the encoder's input, ``k`` rows, ``d`` width, ``r`` side of the output.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .. import __version__
from ..checkpoints.native import metadata_of
from ..config import GeneratorConfig, ModelConfig
from ..errors import ConfigError
from ..generators.base import Generator
from ..generators.sampling import draw
from ..models.psp import PSP
from ..tasks import example_sources, values_of

Part = Literal["encoder", "generator", "whole"]
PARTS: tuple[Part, ...] = ("encoder", "generator", "whole")


class Encode(nn.Module):
    """Pictures to rows, with all iterations and the average: ``[b c s s] -> [b k d]``."""

    def __init__(self, model: PSP):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """As ``PSP.encode``."""
        return self.model.encode(images)


class Draw(nn.Module):
    """Rows to pictures: ``[b k d] -> [b 3 r r]``."""

    def __init__(self, generator: Generator, size: int):
        super().__init__()
        self.generator: Generator = generator
        self.size = size

    def forward(self, ws: Tensor) -> Tensor:
        """As ``synthesize`` of the generator."""
        return self.generator.synthesize(ws, self.size)


class EncodeAndDraw(nn.Module):
    """Pictures to pictures, and their rows: ``[b c s s] -> [b 3 r r], [b k d]``."""

    def __init__(self, model: PSP, size: int):
        super().__init__()
        self.model, self.size = model, size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As ``PSP.invert``, then ``PSP.decode``: with features where the model has a detail encoder."""
        inversion = self.model.invert(images)
        return self.model.decode(inversion.ws, self.size, inversion.features), inversion.ws


@dataclass(frozen=True)
class Graph:
    """A part of a model, ready to be traced: its network, names of input and outputs, example inputs."""

    network: nn.Module
    takes: str
    gives: tuple[str, ...]
    example: Callable[[int], Tensor]
    """A batch of typical inputs of the given size."""
    facts: dict[str, str]
    """Metadata of its file."""


def graph_of(model: PSP | Generator, part: Part, size: int | None = None) -> Graph:
    """One part of a model or of a generator, for ``size`` pixels. Raises ConfigError for a size that does not fit."""
    generator = model.generator if isinstance(model, PSP) else model
    size = generator.size if size is None else size
    if not 1 <= size <= generator.size:
        raise ConfigError(f"this generator draws up to {generator.size} pixels: ask for 1 to that, not --size {size}")
    facts = {"ws": f"rows of W+, [batch, {generator.rows}, {generator.width}]"}
    if part != "encoder":
        facts |= {"drawn": f"RGB in about [-1, 1], [batch, 3, {size}, {size}]"}
    if part == "generator":
        network: nn.Module = Draw(generator, size)
        return Graph(network, "ws", ("drawn",), partial(rows, generator), _facts(part, generator.config, facts))
    assert isinstance(model, PSP)
    if model.corrects_itself:
        model.average_image()  # computed now, so that graphs hold it as a constant
    height, width = model.encoder.config.input_shape
    channels = model.source_channels
    facts |= {"images": f"{values_of(model.config.task, channels)}, [batch, {channels}, {height}, {width}]"}
    network = Encode(model) if part == "encoder" else EncodeAndDraw(model, size)
    gives = ("ws",) if part == "encoder" else ("drawn", "ws")
    return Graph(network, "images", gives, partial(pictures, model), _facts(part, model.config, facts))


def _facts(part: Part, config: ModelConfig | GeneratorConfig, facts: dict[str, str]) -> dict[str, str]:
    return {"pixel2style": __version__, "part": part, "config": metadata_of(config)["config"], **facts}


@torch.no_grad()
def rows(generator: Generator, count: int) -> Tensor:
    """Rows such as encoders write, each its own draw of the mapping network: ``[count k d]``, the same every time."""
    rng = torch.Generator().manual_seed(count)
    w = draw(generator, count * generator.rows, rng, torch.empty(0))
    return w.reshape(count, generator.rows, generator.width)


@torch.no_grad()
def pictures(model: PSP, count: int) -> Tensor:
    """Typical inputs of a model, made from pictures that its generator draws: ``[count c s s]``."""
    drawn = model.redraw(rows(model.generator, count)).clamp(-1, 1)
    return example_sources(model.config.task, drawn, model.source_channels, model.config.source)
