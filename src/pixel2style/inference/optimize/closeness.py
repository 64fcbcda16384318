"""How close full-size pictures are to photographs: the loss that features and weights are refined with.

The generator reaches the coarse content of a picture far more easily than its fine content: the squared gain from
residuals of its maps of 32 to 128 pixels to a picture of 256 falls with the square of the frequency, by a factor of 100
from the lowest frequencies to the highest (``tools/measure_gain.py``). So descent on L2 fits colours first, and fine
lines after hundreds of steps. The loss here adds the mean square of *differences of neighbouring pixels'* errors, which
grows with the square of the frequency: all frequencies are then equally steep, and a dozen steps fit all of them.

What is finer than 256 pixels is held near that of the photograph if it has such pixels, else near that of the first
picture: the loss at 256 pixels does not see it.

Axes: ``b`` batch, ``h w`` sides of a full-size picture.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...config import LossConfig
from ...images import resize
from ...metrics.losses import Objective, edges
from ...ops import pooled

LOSS = LossConfig(l2=1.0, lpips=0.06, identity=0.01)
"""Beside ``EDGES``. Little of what networks see: descent on them finds patterns that only they like."""
EDGES = 9.0
"""Weight of differences of neighbouring pixels' errors: they are as steep as L2 at 14 cycles per picture."""
FINE = 20.0
"""Weight of what pooling to 256 pixels removes. Without it, eyes and the edges of hair get speckles."""
HAS_PIXELS = 0.5
"""A photograph whose finest detail has this share of the energy of the generator's own has pixels of that size."""


class Values(NamedTuple):
    """The loss of pictures, their L2 and their LPIPS at 256 pixels, ``[b]`` each."""

    losses: Tensor
    l2: Tensor
    lpips: Tensor

    def better(self, other: "Values") -> "Values":
        """For each picture the values of the smaller loss; ``other`` where it is not a number."""
        wins = self.losses < other.losses
        return Values(*(torch.where(wins, new, old) for new, old in zip(self, other, strict=True)))


class Closeness:
    """Distances of full-size pictures to photographs ``[b 3 h w]`` (RGB, [-1, 1]).

    ``objective`` has the terms besides those of neighbouring pixels and of what is finer than 256 pixels. Raises
    ValueError for one without LPIPS.
    """

    def __init__(self, images: Tensor, objective: Objective):
        if objective.lpips is None:
            raise ValueError("refinement needs an objective with LPIPS")
        self.images, self.objective, self.lpips = images.float(), objective, objective.lpips
        self.target = objective.target_of(pooled(self.images))
        self.fine: Tensor | None = None

    def __call__(self, drawn: Tensor) -> Values:
        """The distances of pictures ``[b 3 h w]``, in the shape of the photographs; the first ones set what is held."""
        fine = finer(drawn)
        if self.fine is None:
            self.fine = finest_target(self.images, fine.detach())
        made, weights = pooled(drawn), self.objective.config
        error = made - self.target.images
        l2 = error.square().mean((1, 2, 3))
        assert self.target.lpips is not None
        lpips = self.lpips.distance(self.lpips.features(made), self.target.lpips)
        losses = weights.l2 * l2 + EDGES * edges(error) + weights.lpips * lpips
        losses = losses + FINE * (fine - self.fine).square().mean((1, 2, 3))
        if weights.identity:
            losses = losses + weights.identity * (1 - self.objective.cosine(made, self.target))
        return Values(losses, l2, lpips)


def finer(images: Tensor) -> Tensor:
    """What pooling to 256 pixels removes: ``[b 3 h w]`` to the same."""
    return images - F.interpolate(pooled(images), images.shape[-2:], mode="bilinear", align_corners=False)


def finest_target(images: Tensor, own: Tensor) -> Tensor:
    """What the finest detail ``own [b 3 h w]`` of a first picture is held near: that of ``images`` if they have any."""
    theirs = finer(resize(images, (own.shape[-2], own.shape[-1])))
    energy, available = (fine.square().mean((1, 2, 3)) for fine in (own, theirs))
    return torch.where((available >= HAS_PIXELS * energy)[:, None, None, None], theirs, own)
