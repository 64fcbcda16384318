"""Optimisers of rows, features and weights. Those of rows (``newton``, ``adam``) have one contract (``Optimize``).

    optimize(model, images, ws, steps, *, degradation=None, callback=None) -> ws

They start from ``ws [b k d]`` and return rows of the same shape that draw ``images [b 3 h w]`` (RGB, [-1, 1]) better.
If ``images`` are degraded, ``degradation`` does the same to drawn pictures ``[b 3 256 256]`` before the two are
compared (as in PULSE, arXiv 2003.03808). ``callback`` gets the number and the loss of each step. No weight changes and
nothing is random.

``agreement`` is for drawings. Those of features and of weights (``maps``, ``weights``) are iterators over ``Progress``
without an end.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from ...generators.base import Generator
from ...metrics.losses import Objective, Reconstruction, Target
from ...models.inversion import Inversion
from ...models.psp import PSP
from .closeness import Values


@dataclass(frozen=True)
class Progress:
    """The state after ``step`` steps: what has the smallest loss so far, and its distances from the photographs.

    ``generator`` is a copy with other weights, where these are tuned.
    """

    step: int
    inversion: Inversion
    values: Values
    generator: Generator | None = None


Degradation = Callable[[Tensor], Tensor]
Callback = Callable[[int, float], None]


class Optimize(Protocol):
    """The contract of ``adam.optimize`` and ``newton.optimize``."""

    def __call__(
        self,
        model: PSP,
        images: Tensor,
        ws: Tensor,
        steps: int,
        *,
        degradation: Degradation | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Rows ``[b k d]``."""


def loss_of(
    codes: Tensor, model: PSP, objective: Objective, target: Target, degradation: Degradation | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of rows given as ``codes [b k d]``, their distance from the average in the model's ``w_unit``.

    Also what the rows draw, ``[b 3 256 256]``.
    """
    delta = codes * model.w_unit
    drawn = seen = model.draw_to_compare(delta + model.w_avg)
    if degradation is not None:
        with torch.autocast(drawn.device.type, enabled=False):  # the degraded target was made in float32
            seen = degradation(drawn)
    return cast(Tensor, objective(Reconstruction(target, delta, codes, seen))[0]), drawn
