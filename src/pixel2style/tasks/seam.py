"""Colours on the two sides of a mask's edge: how those of drawn pixels are brought to those of known ones.

What rows draw is continuous across the edge, so what they miss of the known pixels is probably also missing beyond it.
That difference is continued into the hidden part, along areas in which rows draw an even colour: a background gets the
offset of the background, skin that of skin.

Axes: ``r`` side of a picture, ``g`` side of the grid of cells on which offsets are solved for.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import resize
from ..ops import COMPARE_SIZE
from . import degrade

CELL = 4
"""Side of a cell, in pixels of a picture of 256."""
ALIKE = 0.1
"""Neighbouring cells whose colours differ by this, in [-1, 1], share offsets by a factor of e^-.5 less."""
LEAK = 0.002
"""The weight between cells of different colours, against 1 between equal ones."""
OWN = 0.002
"""How much each hidden cell is held to the colour that is drawn there, in the same unit."""
MOST_OFFSET = 0.5
"""Largest correction of a drawn colour, in the range [-1, 1]."""
MOST_STEPS = 200
"""Steps of conjugate gradients; a half of a picture takes about 130."""


def matched(drawn: Tensor, photograph: Tensor, kept: Tensor, rows: Tensor | None = None) -> Tensor:
    """Drawn pictures ``[3 r r]`` in [-1, 1] with hidden colours that continue those of the photograph's known pixels.

    ``kept`` [1 r r] is 1 at known pixels, 0 at hidden ones; ``rows`` [3 s s] is what rows alone draw, by default
    ``drawn``. What changes is an offset, smooth within areas of one colour and at most ``MOST_OFFSET``.
    """
    rows = drawn if rows is None else rows
    small = [resize(picture[None], COMPARE_SIZE) for picture in (drawn, photograph, rows, kept)]
    drawn_small, photograph_small, rows_small, kept_small = small
    known, hidden = (kept_small > 0.999).float(), (kept_small < 0.001).float()
    missed = _means(photograph_small - rows_small, known)
    own = _means(drawn_small - rows_small, hidden)
    fixed = (F.avg_pool2d(known, CELL) >= 0.5).float()
    inside = (F.avg_pool2d(hidden, CELL) > 0).float() * (1 - fixed)
    if not fixed.any() or not inside.any():
        return drawn
    own = degrade.continued(own * inside, inside)
    wanted = _continued_along(F.avg_pool2d(rows_small, CELL), missed, fixed, own)
    offset = degrade.continued((wanted - own) * inside, inside).clamp(-MOST_OFFSET, MOST_OFFSET)
    return (drawn + F.interpolate(offset, drawn.shape[-2:], mode="bilinear", align_corners=False)[0]).clamp(-1, 1)


def _means(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted means over cells, 0 where a cell has no weight: ``[1 c r r] -> [1 c g g]``."""
    return F.avg_pool2d(values * weights, CELL) / F.avg_pool2d(weights, CELL).clamp(min=1e-6)


def _continued_along(guide: Tensor, values: Tensor, fixed: Tensor, own: Tensor) -> Tensor:
    """Values ``[1 c g g]`` of the ``fixed`` cells [1 1 g g], continued to the others along even areas of ``guide``.

    The least sum of squared differences between neighbours, weighted by how alike the guide's colours are, plus
    ``OWN`` times those from ``own`` [1 c g g]: a linear system, solved by conjugate gradients.
    """
    down, across = (
        torch.exp(-guide.diff(dim=axis).square().sum(1, keepdim=True) / (2 * ALIKE**2)) + LEAK for axis in (-2, -1)
    )

    def from_neighbours(x: Tensor) -> Tensor:
        total = F.pad(down * x[..., :-1, :], (0, 0, 1, 0)) + F.pad(down * x[..., 1:, :], (0, 0, 0, 1))
        return total + F.pad(across * x[..., :-1], (1, 0)) + F.pad(across * x[..., 1:], (0, 1))

    free = 1 - fixed
    diagonal = from_neighbours(torch.ones_like(values)) + OWN

    def applied(x: Tensor) -> Tensor:
        return free * (diagonal * x - from_neighbours(x * free))

    solution = free * own
    residual = free * (OWN * own + from_neighbours(values * fixed)) - applied(solution)
    direction, square = residual, residual.square().sum()
    for _ in range(MOST_STEPS):
        if square < 1e-6:
            break
        image = applied(direction)
        length = square / (direction * image).sum()
        solution, residual = solution + length * direction, residual - length * image
        before, square = square, residual.square().sum()
        direction = residual + square / before * direction
    return solution + values * fixed
