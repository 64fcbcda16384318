"""L-BFGS for a batch of independent problems (Nocedal 1980; Liu and Nocedal 1989), without a line search.

PyTorch's has one history for all its variables, so pictures of a batch would influence each other, and its first step
is too small to be seen in bfloat16.

Axes: ``b`` problems, ``n`` variables of each.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .closeness import Values

MEMORY = 6
"""Changes that are remembered."""
FIRST_STEP = 0.02
"""Root mean square of the first step, in units of the variables."""
_WORSE, _SHORTER = 1.3, 0.25
"""A loss above the smallest one times this is undone, and the next step is shorter by this factor."""
_LEAST_CURVATURE = 1e-6
"""Changes of less curvature than this share of |change| |change of the gradient| are left out: rounding."""


@dataclass(frozen=True)
class Best:
    """The variables ``x [b n]`` of the smallest losses after ``step`` steps, and the values there."""

    step: int
    x: Tensor
    values: Values


def minimise(evaluate: Callable[[Tensor], tuple[Values, Tensor]], x: Tensor) -> Iterator[Best]:
    """Steps of ``b`` independent problems from ``x [b n]`` on, of which ``evaluate`` gives values and gradients.

    Yields the best so far, before the first step and after each one, without an end.
    """
    values, slope = evaluate(x)
    best = Best(0, x, values)
    yield best
    history, length = LBFGS(), torch.full_like(values.losses, FIRST_STEP * math.sqrt(x.shape[1]))
    shorter = torch.ones_like(length)
    while True:
        new = x + shorter[:, None] * history.direction(slope, length)
        found, gradient = evaluate(new)
        worse = ~(found.losses <= _WORSE * best.values.losses)  # also where it is not a number
        stay = worse[:, None]
        history.add(torch.where(stay, 0, new - x), torch.where(stay, 0, gradient - slope))
        history.forget(worse)
        shorter = torch.where(worse, shorter * _SHORTER, 1)
        x, slope = torch.where(stay, x, new), torch.where(stay, slope, gradient)
        wins = (found.losses < best.values.losses)[:, None]
        best = Best(best.step + 1, torch.where(wins, new, best.x), found.better(best.values))
        yield best


class LBFGS:
    """Directions of descent from the last changes of variables and gradients."""

    def __init__(self, memory: int = MEMORY):
        self._changes: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=memory)

    def add(self, moved: Tensor, changed: Tensor) -> None:
        """Remember how far variables ``moved`` and how their gradients ``changed``, both ``[b n]``."""
        curvature = _dot(moved, changed)
        least = _LEAST_CURVATURE * (_dot(moved, moved) * _dot(changed, changed)).sqrt()
        inverse = torch.where(curvature > least, 1 / curvature, torch.zeros_like(curvature))
        self._changes.append((moved, changed, inverse))

    def forget(self, problems: Tensor) -> None:
        """Forget the changes of the problems where ``problems`` ``[b]`` is true."""
        for _, _, inverse in self._changes:
            inverse[problems] = 0

    def direction(self, gradient: Tensor, first: Tensor) -> Tensor:
        """The step ``[b n]`` against a gradient ``[b n]``; ``first`` ``[b]`` is its length where nothing is known."""
        step = -gradient
        shares = []
        for moved, changed, inverse in reversed(self._changes):
            share = inverse * _dot(moved, step)
            step = step - share[:, None] * changed
            shares.append(share)
        step = step * self._scale(gradient, first)[:, None]
        for (moved, changed, inverse), share in zip(self._changes, reversed(shares), strict=True):
            step = step + (share - inverse * _dot(changed, step))[:, None] * moved
        return step

    def _scale(self, gradient: Tensor, first: Tensor) -> Tensor:
        """The inverse of the curvature ``[b]``, as the last change saw it."""
        scale: Tensor = first / torch.linalg.vector_norm(gradient, dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        for _, changed, inverse in self._changes:
            known = inverse > 0
            scale = torch.where(known, 1 / (inverse * _dot(changed, changed)).clamp_min(1e-30), scale)
        return scale


def _dot(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = (a * b).sum(1)
    return product
