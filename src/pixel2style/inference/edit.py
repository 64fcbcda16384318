"""Edits of an inversion: its rows are changed, its features are carried along, and the picture is drawn again.

Axes: ``n`` edits, ``k`` rows, ``d`` width of a row.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import assets, images
from ..editing import directions, latents
from ..editing.directions import Direction
from ..editing.latents import Rows
from ..errors import ConfigError
from ..generators.base import Generator
from ..generators.sampling import draw, seeded
from .prepare import TRUNCATION

MOST_STEPS = 24
"""Pictures of a strip; more would not fit into what ``images`` opens."""
LARGEST = 20.0
"""The largest amount of a move, in units of a direction."""
SHOWN = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Units by which the face of ``shown`` is moved."""


@dataclass(frozen=True)
class Move:
    """``amount`` units along a direction."""

    direction: Direction
    amount: float


def parsed(text: str, generator: Generator) -> Move:
    """The move that ``NAME=AMOUNT`` means; NAME is a bundled direction or a file of one.

    Raises ConfigError for other words, names and amounts, CheckpointError for a file that holds no direction.
    """
    name, equals, number = text.rpartition("=")
    if not equals or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", number.strip()):
        raise ConfigError(f"--set {text} is not NAME=AMOUNT: for example age=+2")
    amount = float(number)
    if abs(amount) > LARGEST:
        raise ConfigError(
            f"--set {text}: an amount is from -{LARGEST:g} to {LARGEST:g}; most directions look good to 3"
        )
    return Move(find(name.strip(), generator), amount)


def find(name: str, generator: Generator) -> Direction:
    """The direction in a file, or component N of FILE:N of GANSpace, or the bundled one of a name.

    Raises ConfigError, CheckpointError.
    """
    file, colon, component = name.rpartition(":")
    if colon and component.isdecimal() and Path(file).suffix.lower() in directions.SUFFIXES:
        return directions.load(file, generator, int(component))
    if Path(name).suffix.lower() in directions.SUFFIXES or "/" in name:
        return directions.load(name, generator)
    known = bundled(generator)
    if name in known:
        return known[name]
    if not known:
        raise ConfigError(f"no directions of {directions.id_of(generator)} are bundled: give a file, --set FILE.pt=1")
    raise ConfigError(f"there is no direction {name!r}: choose one of {', '.join(known)}, or give a file")


def bundled(generator: Generator) -> dict[str, Direction]:
    """The bundled directions of a generator, by name; none for one they do not belong to."""
    found: dict[str, Direction] = {}
    for name in assets.names():
        if name.startswith("directions_"):
            found |= directions.load_many(assets.path(name), generator)
    return found


def edited(ws: Tensor, moves: Sequence[Move], rows: Rows | None = None, share: float = 1.0) -> Tensor:
    """Rows ``[k d]`` after ``share`` of all moves, in the order given; ``rows`` replaces those of the directions."""
    moved = ws[None]
    for move in moves:
        moved = move.direction.apply(moved, share * move.amount, rows)
    return moved[0]


@dataclass(frozen=True)
class Share:
    """A photograph whose rows are mixed in, and its weight among others."""

    photograph: Path
    weight: float = 1.0


def parsed_share(text: str) -> Share:
    """The share that ``PHOTO`` or ``PHOTO:WEIGHT`` means. Raises ConfigError for a weight that is none."""
    name, colon, number = text.rpartition(":")
    if not colon or not re.fullmatch(r"\d+\.?\d*|\.\d+", number):
        return Share(Path(text))
    if not 0 < float(number) < math.inf:
        raise ConfigError(f"--with {text}: a weight is above 0, and finite")
    return Share(Path(name), float(number))


def mixed(ws: Tensor, others: Tensor, weights: Sequence[float], rows: Rows, alpha: float) -> Tensor:
    """Rows ``[k d]`` with a share ``alpha`` of the weighted mean of ``others [n k d]`` in ``rows``."""
    shares = others.new_tensor(list(weights))
    mean = torch.einsum("n,nkd->kd", shares / shares.sum(), others)
    return latents.mix(ws[None], mean[None], rows, alpha)[0]


def walk(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Rows ``[n k d]`` of ``steps`` points on the line from ``start [k d]`` to ``end``. Raises ConfigError."""
    check_steps(steps)
    return torch.stack([start + share * (end - start) for share in torch.linspace(0, 1, steps).tolist()])


def check_steps(steps: int, option: str = "strip") -> None:
    """Raise ConfigError for a number of pictures, given as ``option``, that makes no strip."""
    if not 2 <= steps <= MOST_STEPS:
        raise ConfigError(f"--{option} has 2 to {MOST_STEPS} pictures, not {steps}")


def varied(ws: Tensor, generator: Generator, count: int, rows: Rows, seed: int, alpha: float) -> Tensor:
    """``count`` variants ``[n k d]`` of rows ``[k d]``, with new latents in ``rows``. Raises ConfigError."""
    check_variants(count)
    return latents.resample(ws[None].expand(count, -1, -1), generator, rows, seed, alpha, TRUNCATION)


def check_variants(count: int) -> None:
    """Raise ConfigError for a number of variants that do not make a strip."""
    if not 1 <= count <= MOST_STEPS:
        raise ConfigError(f"--variants must be from 1 to {MOST_STEPS}, not {count}")


def strip(ws: Tensor, moves: Sequence[Move], steps: int, rows: Rows | None = None) -> Tensor:
    """Rows ``[n k d]`` of ``steps`` edits, from the opposite of the moves to the moves. Raises ConfigError."""
    check_steps(steps)
    return torch.stack([edited(ws, moves, rows, share) for share in torch.linspace(-1, 1, steps).tolist()])


@torch.no_grad()
def shown(direction: Direction, generator: Generator, seed: int, side: int = 256) -> Image.Image:
    """The face of nobody, moved by ``SHOWN`` units: pictures of ``side`` pixels beside each other.

    Raises ConfigError for a seed below 0.
    """
    w = draw(generator, 1, seeded(seed), generator.w_avg, TRUNCATION)
    own = w.expand(generator.rows, -1)
    every = [generator.synthesize(edited(own, [Move(direction, amount)])[None])[0] for amount in SHOWN]
    tiles = [images.to_picture(one).resize((side, side), Image.Resampling.LANCZOS) for one in every]
    return images.grid(tiles, len(tiles))
