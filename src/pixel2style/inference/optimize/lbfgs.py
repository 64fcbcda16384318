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

MEMORY = 4
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
    """Directions of descent from the last changes of variables and gradients.

    The two loops of the algorithm need only inner products of these changes, which are kept: of the long vectors
    themselves, each direction takes one matrix product to read them and one to sum them (as Chen et al., NeurIPS 2014).
    """

    def __init__(self, memory: int = MEMORY):
        self._memory = memory
        self._changes = torch.empty(0)  # [b 2m n]: m changes of variables, m of gradients
        self._products = torch.empty(0)  # [b 2m 2m], of these
        self._inverse = torch.empty(0)  # [b m]: 1 / (change of variables times change of gradient), 0: left out
        self._order: deque[int] = deque(maxlen=memory)

    def add(self, moved: Tensor, changed: Tensor) -> None:
        """Remember how far variables ``moved`` and how their gradients ``changed``, both ``[b n]``."""
        if not self._order:
            self._changes = moved.new_zeros(len(moved), 2 * self._memory, moved.shape[1])
            self._products = moved.new_zeros(len(moved), 2 * self._memory, 2 * self._memory)
            self._inverse = moved.new_zeros(len(moved), self._memory)
        place = self._order[0] if len(self._order) == self._memory else len(self._order)
        self._order.append(place)
        for at, vector in ((place, moved), (place + self._memory, changed)):
            self._changes[:, at] = vector
            products = torch.bmm(self._changes, vector[:, :, None])[:, :, 0]
            self._products[:, at], self._products[:, :, at] = products, products
        curvature, lengths = self._products[:, place, place + self._memory], self._products.diagonal(dim1=1, dim2=2)
        least = _LEAST_CURVATURE * (lengths[:, place] * lengths[:, place + self._memory]).sqrt()
        self._inverse[:, place] = torch.where(curvature > least, 1 / curvature, torch.zeros_like(curvature))

    def forget(self, problems: Tensor) -> None:
        """Forget the changes of the problems where ``problems`` ``[b]`` is true."""
        if self._order:
            self._inverse[problems] = 0

    def direction(self, gradient: Tensor, first: Tensor) -> Tensor:
        """The step ``[b n]`` against a gradient ``[b n]``; ``first`` ``[b]`` is its length where nothing is known."""
        scale: Tensor = first / torch.linalg.vector_norm(gradient, dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        if not self._order:
            return -scale[:, None] * gradient
        along = torch.bmm(self._changes, gradient[:, :, None])[:, :, 0]
        shares = torch.zeros_like(along)  # what of each change is added to the scaled gradient
        m = self._memory
        for at in reversed(self._order):  # the gradient less multiples of its changes: sign reversed at the end
            inner = along[:, at] - (shares[:, m:] * self._products[:, at, m:]).sum(1)
            shares[:, at + m] = self._inverse[:, at] * inner
        for at in self._order:
            inverse = self._inverse[:, at]
            own = self._products[:, at + m, at + m]
            scale = torch.where(inverse > 0, 1 / (inverse * own).clamp_min(1e-30), scale)
        multiples = -scale[:, None] * shares[:, m:]
        found = torch.zeros_like(shares[:, :m])
        for at in self._order:
            inner = scale * along[:, at + m] + (multiples * self._products[:, at + m, m:]).sum(1)
            inner = inner + (found * self._products[:, at + m, :m]).sum(1)
            found[:, at] = shares[:, at + m] - self._inverse[:, at] * inner
        step = torch.bmm(torch.cat([found, multiples], 1)[:, None], self._changes)[:, 0]
        return step.add_(scale[:, None] * gradient).neg_()
