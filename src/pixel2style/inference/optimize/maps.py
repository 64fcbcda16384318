"""L-BFGS on the residuals of a picture, in the generator's maps: what a forward pass of a detail encoder leaves.

A map reaches the coarse content of a picture far more easily than its fine content: the squared gain from maps of 32 to
128 pixels to a picture of 256 falls with the square of the frequency, by a factor of 100 from the lowest frequencies to
the highest (``tools/measure_gain.py``). So descent on L2 fits colours first, and fine lines after hundreds of steps.
The loss here adds the mean square of *differences of neighbouring pixels'* errors, which grows with the square of the
frequency: all frequencies are then equally steep, and a dozen steps fit all of them.

What is finer than 256 pixels is held near that of the photograph if it has such pixels, else near that of the first
picture: the loss at 256 pixels does not see it.

Axes: ``b`` batch, ``c`` channels and ``s`` side of a map, ``n`` numbers of all residuals of a picture.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...config import LossConfig
from ...images import resize
from ...metrics.losses import Objective, Target
from ...models.inversion import Inversion
from ...models.psp import PSP
from ...ops import pooled
from .lbfgs import LBFGS
from .newton import fast_in_bf16

LOSS = LossConfig(l2=1.0, lpips=0.06, identity=0.01)
"""Beside ``EDGES``. Little of what networks see: descent on them finds patterns that only they like."""
EDGES = 9.0
"""Weight of differences of neighbouring pixels' errors: they are as steep as L2 at 14 cycles per picture."""
FINE = 20.0
"""Weight of what pooling to 256 pixels removes. Without it, eyes and the edges of hair get speckles."""
HAS_PIXELS = 0.5
"""A photograph whose finest detail has this share of the energy of the generator's own has pixels of that size."""
SIDES = (32, 64, 128)
"""Maps whose residuals change, as far as the generator has them."""
FIRST_STEP = 0.02
"""Root mean square of the first step, in units of each channel's deviation."""
_WORSE, _SHORTER = 1.3, 0.25
"""A loss above the smallest one times this is undone, and the next step is shorter by this factor."""


@dataclass(frozen=True)
class Progress:
    """The state after ``step`` steps: ``inversion`` has the smallest loss so far.

    ``losses``, ``l2`` and ``lpips`` ``[b]`` are its own, at 256 pixels.
    """

    step: int
    inversion: Inversion
    losses: Tensor
    l2: Tensor
    lpips: Tensor


def descend(model: PSP, images: Tensor, inversion: Inversion, objective: Objective) -> Iterator[Progress]:
    """Improve the residuals of an inversion, so that it draws ``images [b 3 h w]`` (RGB, [-1, 1]); rows stay.

    Yields before the first step and after each one, without an end: the caller decides when it is enough. Pictures do
    not influence each other. The loss compares the full-size picture, pooled to 256 pixels. ``objective`` is the loss
    besides the differences of pixels, with LPIPS. Raises ValueError for an objective without, or a generator without
    maps for residuals.
    """
    problem = _Problem(model, images, inversion, objective)
    x = problem.start()
    losses, l2, lpips, gradient = problem.evaluate(x)
    best = Progress(0, inversion, losses, l2, lpips)
    yield best
    history, length = LBFGS(), torch.full_like(losses, FIRST_STEP * math.sqrt(x.shape[1]))
    origin, slope, shorter = x, gradient, torch.ones_like(losses)
    while True:
        x = origin + shorter[:, None] * history.direction(slope, length)
        losses, l2, lpips, gradient = problem.evaluate(x)
        worse = ~(losses <= _WORSE * best.losses)  # also where it is not a number
        if not worse.all():
            history.add(*(torch.where(worse[:, None], 0, change) for change in (x - origin, gradient - slope)))
        history.forget(worse)
        shorter = torch.where(worse, shorter * _SHORTER, torch.ones_like(shorter))
        origin = torch.where(worse[:, None], origin, x)
        slope = torch.where(worse[:, None], slope, gradient)
        best = problem.better(best, x, losses, l2, lpips)
        yield best


def finer(images: Tensor) -> Tensor:
    """What pooling to 256 pixels removes: ``[b 3 h w]`` to the same."""
    return images - F.interpolate(pooled(images), images.shape[-2:], mode="bilinear", align_corners=False)


def finest_target(images: Tensor, own: Tensor) -> Tensor:
    """What the finest detail ``own [b 3 h w]`` of a first picture is held near: that of ``images`` if they have any."""
    theirs = finer(resize(images, (own.shape[-2], own.shape[-1])))
    energy, available = (fine.square().mean((1, 2, 3)) for fine in (own, theirs))
    return torch.where((available >= HAS_PIXELS * energy)[:, None, None, None], theirs, own)


class _Problem:
    """The loss of residuals given as ``x [b n]``, in units of the deviation of each channel of their maps."""

    def __init__(self, model: PSP, images: Tensor, inversion: Inversion, objective: Objective):
        channels = model.generator.map_channels()
        self.sides = [side for side in SIDES if side in channels]
        if objective.lpips is None or not self.sides:
            raise ValueError("residuals are optimised with LPIPS, in a generator that has maps for them")
        self.model, self.objective, self.ws = model, objective, inversion.ws
        device = model.w_avg.device
        self.precision = torch.autocast(device.type, torch.bfloat16, enabled=fast_in_bf16(device))
        self.kept = {side: own for side, own in inversion.features.items() if side not in self.sides}
        self.units, self.inversion = {}, inversion
        self.fine: Tensor | None = None
        with torch.no_grad(), self.precision:
            for side in self.sides:
                below = {at: own for at, own in inversion.features.items() if at <= side}
                map_ = model.generator.features(inversion.ws, side, residuals=below)
                self.units[side] = map_.float().std((2, 3), keepdim=True).clamp_min(1e-3)
            self.images = images.to(device, torch.float32)
            self.target: Target = objective.target_of(pooled(self.images))

    def start(self) -> Tensor:
        """The residuals of the inversion: ``[b n]``."""
        parts = []
        for side in self.sides:
            unit = self.units[side]
            own = self.inversion.features.get(side)
            parts.append(
                (unit.new_zeros(*unit.shape[:2], side, side) if own is None else own.float() / unit).flatten(1)
            )
        return torch.cat(parts, 1)

    def residuals(self, x: Tensor) -> Mapping[int, Tensor]:
        """``[b n]`` to residuals by side."""
        sizes = [self.units[side].shape[1] * side * side for side in self.sides]
        parts = zip(self.sides, torch.split(x, sizes, 1), strict=True)
        return self.kept | {
            side: part.reshape(*self.units[side].shape[:2], side, side) * self.units[side] for side, part in parts
        }

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss, L2 and LPIPS ``[b]``, and the gradient ``[b n]``."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            with self.precision:
                drawn = self.model.decode(self.ws, features=self.residuals(x))
                drawn = self.model.framed(drawn).float()
                fine = finer(drawn)
                if self.fine is None:
                    self.fine = finest_target(self.images, fine.detach())
                losses, l2, lpips = self._losses(pooled(drawn))
                losses = losses + FINE * (fine - self.fine).square().mean((1, 2, 3))
            (gradient,) = torch.autograd.grad(losses.sum(), x)
        return losses.detach(), l2.detach(), lpips.detach(), gradient

    def _losses(self, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        objective, target = self.objective, self.target
        assert objective.lpips is not None and target.lpips is not None
        error = drawn - target.images
        l2 = error.square().mean((1, 2, 3))
        edges = error.diff(dim=-1).square().mean((1, 2, 3)) + error.diff(dim=-2).square().mean((1, 2, 3))
        lpips = objective.lpips.distance(objective.lpips.features(drawn), target.lpips)
        weights = objective.config
        losses = weights.l2 * l2 + EDGES * edges + weights.lpips * lpips
        if weights.identity:
            losses = losses + weights.identity * (1 - objective.cosine(drawn, target))
        return losses, l2, lpips

    def better(self, best: Progress, x: Tensor, losses: Tensor, l2: Tensor, lpips: Tensor) -> Progress:
        """``best``, or the new residuals where their loss is smaller."""
        wins = losses < best.losses
        residuals = self.residuals(x)
        zeros = {side: torch.zeros_like(new) for side, new in residuals.items()}
        features = {
            side: torch.where(wins[:, None, None, None], new, best.inversion.features.get(side, zeros[side]))
            for side, new in residuals.items()
        }
        values = (
            torch.where(wins, new, old) for new, old in ((losses, best.losses), (l2, best.l2), (lpips, best.lpips))
        )
        return Progress(best.step + 1, Inversion(self.ws, features), *values)
