"""L-BFGS on the residuals of a picture, in the generator's maps: what a forward pass of a detail encoder leaves.

Axes: ``b`` batch, ``c`` channels and ``s`` side of a map, ``n`` numbers of all residuals of a picture.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ... import runtime
from ...metrics.losses import Objective
from ...models.inversion import Inversion
from ...models.psp import PSP
from . import Progress
from .closeness import Closeness, Values
from .lbfgs import minimise

SIDES = (32, 64, 128)
"""Maps whose residuals change, as far as the generator has them."""


def descend(
    model: PSP, images: Tensor, inversion: Inversion, objective: Objective, bf16: bool | None = None
) -> Iterator[Progress]:
    """Improve the residuals of an inversion, so that it draws ``images [b 3 h w]`` (RGB, [-1, 1]); rows stay.

    Yields before the first step and after each one, without an end: the caller decides when it is enough. Pictures do
    not influence each other. ``bf16`` as of ``newton.optimize``. Raises ValueError for an ``objective`` without LPIPS,
    or a generator without maps for residuals.
    """
    problem = _Problem(model, images, inversion, objective, bf16)
    for best in minimise(problem.evaluate, problem.start()):
        features = problem.residuals(best.x) if best.step else inversion.features
        yield Progress(best.step, Inversion(inversion.ws, features), best.values)


class _Problem:
    """The loss of residuals given as ``x [b n]``, in units of the deviation of each channel of their maps."""

    def __init__(self, model: PSP, images: Tensor, inversion: Inversion, objective: Objective, bf16: bool | None):
        self.sides = [side for side in SIDES if side in model.generator.map_channels()]
        if not self.sides:
            raise ValueError("this generator has no maps for residuals")
        self.model, self.inversion = model, inversion
        device = model.w_avg.device
        enabled = runtime.fast_in_bf16(device) if bf16 is None else bf16
        self.precision = torch.autocast(device.type, torch.bfloat16, enabled=enabled)
        self.kept = {side: own for side, own in inversion.features.items() if side not in self.sides}
        self.units: dict[int, Tensor] = {}
        with torch.no_grad(), self.precision:
            for side in self.sides:
                below = {at: own for at, own in inversion.features.items() if at <= side}
                maps = model.generator.features(inversion.ws, side, residuals=below)
                self.units[side] = maps.float().std((2, 3), keepdim=True).clamp_min(1e-3)
            self.closeness = Closeness(images.to(device), objective)

    def start(self) -> Tensor:
        """The residuals of the inversion: ``[b n]``."""
        parts = []
        for side in self.sides:
            unit, own = self.units[side], self.inversion.features.get(side)
            residual = unit.new_zeros(*unit.shape[:2], side, side) if own is None else own.float() / unit
            parts.append(residual.flatten(1))
        return torch.cat(parts, 1)

    def residuals(self, x: Tensor) -> Mapping[int, Tensor]:
        """``[b n]`` to residuals by side."""
        sizes = [self.units[side].shape[1] * side * side for side in self.sides]
        parts = zip(self.sides, torch.split(x, sizes, 1), strict=True)
        shaped = {side: part.reshape(*self.units[side].shape[:2], side, side) for side, part in parts}
        return self.kept | {side: part * self.units[side] for side, part in shaped.items()}

    def evaluate(self, x: Tensor) -> tuple[Values, Tensor]:
        """The values of residuals ``x [b n]``, and the gradient of the loss ``[b n]``."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            with self.precision:
                drawn = self.model.decode(self.inversion.ws, features=self.residuals(x))
                values = self.closeness(self.model.framed(drawn).float())
            (gradient,) = torch.autograd.grad(values.losses.sum(), x)
        return Values(*(value.detach() for value in values)), gradient
