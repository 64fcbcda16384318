"""Damped Newton steps on the rows of a picture, with a curvature that was measured beforehand.

Adam needs dozens of steps, because a change of rows along some directions changes the picture ten thousand times as
much as along others, and Adam has to find these for each picture. But they depend on the generator far more than on the
picture. So the curvature of the loss is measured once, averaged over pictures (Gauss-Newton), and every picture takes
damped Newton steps with it (Levenberg 1944, Marquardt 1963). One step does more than ten of Adam's, and rows move so
little that edits keep working.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``n`` directions, ``p`` probes, ``s`` side of a picture.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ... import assets, runtime
from ...config import LossConfig
from ...errors import ConfigError
from ...metrics.identity import Identity
from ...metrics.losses import Objective
from ...metrics.lpips import LPIPS, unit_length
from ...models.psp import PSP
from ...ops import pooled
from . import Callback, Degradation, loss_of

LOSS = LossConfig(l2=1.0, lpips=0.8, identity=0.1)
"""The paper's loss for inversion."""
BUNDLED = {"mobilestylegan": "curvature"}
"""The asset with the curvature of each kind of generator that has one."""
DAMPING = 0.004
"""First value of what is added to all curvatures: the best of .0015, .003 and .006 on 12 photographs."""
_AFTER_SUCCESS, _AFTER_FAILURE = 0.7, 4.0
"""Factors of the damping after a step that made the loss smaller, or did not."""


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of the loss along directions of all rows at once, in the model's ``w_unit``.

    ``directions [n k*d]`` are orthonormal and sorted, ``values [n]`` the second derivatives along them; along
    directions perpendicular to all of them it is taken to be zero.
    """

    directions: Tensor
    values: Tensor

    def step(self, gradient: Tensor, damping: float) -> Tensor:
        """The damped Newton step ``[b k d]`` against a gradient ``[b k d]``."""
        flat = gradient.flatten(1)
        along = flat @ self.directions.T
        steep = (along * (1 / (self.values + damping) - 1 / damping)) @ self.directions
        return -(steep + flat / damping).view_as(gradient)

    def to(self, device: torch.device) -> "Curvature":
        """The same on another device."""
        return Curvature(self.directions.to(device), self.values.to(device))


def bundled(model: PSP) -> Curvature | None:
    """The bundled curvature for the kind of a model's generator, also if that was fine-tuned; None if there is none."""
    name = BUNDLED.get(model.config.generator.kind)
    if name is None:
        return None
    found = assets.read(name)
    return Curvature(found["directions"].float() * found["unit"][:, None], found["values"])


def optimize(
    model: PSP,
    images: Tensor,
    ws: Tensor,
    steps: int = 1,
    *,
    degradation: Degradation | None = None,
    callback: Callback | None = None,
    objective: Objective | None = None,
    curvature: Curvature | None = None,
    bf16: bool | None = None,
) -> Tensor:
    """Rows ``[b k d]`` that draw ``images [b 3 h w]`` better than ``ws``; see the contract in ``optimize``.

    Pictures are optimised one by one. A step that does not make the loss smaller is undone and tried again shorter, so
    rows never get worse. With a ``degradation`` the curvature is overestimated, and steps are short. ``callback`` is
    also called before the first step. ``objective`` is the loss (default: ``LOSS``) and ``curvature`` its curvature
    (default: the bundled one). Networks compute in bfloat16 if ``bf16``, by default if this processor has instructions
    for it: gradients are then a tenth off, and steps as good in two thirds of the time; what is rounded depends on the
    processor. Raises ConfigError if no curvature is known.
    """
    return steps_of(
        model, images, ws, steps,
        degradation=degradation, callback=callback, objective=objective, curvature=curvature, bf16=bf16,
    ).ws  # fmt: skip


class Optimized(NamedTuple):
    """Rows ``[b k d]``, what they draw ``[b 3 256 256]``, and their losses ``[b]``."""

    ws: Tensor
    drawn: Tensor
    losses: Tensor


def steps_of(
    model: PSP,
    images: Tensor,
    ws: Tensor,
    steps: int = 1,
    *,
    degradation: Degradation | None = None,
    callback: Callback | None = None,
    objective: Objective | None = None,
    curvature: Curvature | None = None,
    bf16: bool | None = None,
) -> Optimized:
    """``optimize``, with what is known of the rows afterwards."""
    device, curvature = model.w_avg.device, known(model, curvature)
    optimized = []
    with gradients(device, bf16):
        objective = (Objective(LOSS) if objective is None else objective).to(device)
        pictures, rows = (given.to(device, torch.float32).clone() for given in (images, ws))
        for picture, row in zip(pictures, rows, strict=True):
            target = objective.target_of(pooled(picture[None]))
            start = ((row[None] - model.w_avg) / model.w_unit).detach()
            loss = partial(loss_of, model=model, objective=objective, target=target, degradation=degradation)
            codes, drawn, lowest = minimized(loss, start, steps, curvature, callback)
            optimized.append((codes * model.w_unit + model.w_avg, drawn, lowest))
    return Optimized(*(torch.cat(parts) for parts in zip(*optimized, strict=True)))


def known(model: PSP, curvature: Curvature | None = None) -> Curvature:
    """The curvature, by default the bundled one, where the model is. Raises ConfigError if none is known."""
    found = bundled(model) if curvature is None else curvature
    if found is None:
        raise ConfigError(f"no curvature of {model.config.generator.kind} is bundled: measure it, or use adam.optimize")
    return found.to(model.w_avg.device)


@contextlib.contextmanager
def gradients(device: torch.device, bf16: bool | None = None) -> Iterator[None]:
    """Compute gradients, wherever the caller is; in bfloat16 if ``bf16``, by default if the device is fast in it.

    Else not, even where an autocast of the caller says so.
    """
    enabled = runtime.fast_in_bf16(device) if bf16 is None else bf16
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, torch.bfloat16, enabled):
        yield


def minimized(
    loss: Callable[[Tensor], tuple[Tensor, Tensor]],
    codes: Tensor,
    steps: int,
    curvature: Curvature,
    callback: Callback | None = None,
    damping: float = DAMPING,
) -> tuple[Tensor, Tensor, Tensor]:
    """The codes ``[1 k d]`` of the smallest loss that was reached, what they draw, and that loss ``[1]``.

    ``loss`` gives that of codes, and what they draw.
    """
    best, best_drawn, lowest = codes, codes, math.inf
    gradient = torch.zeros_like(codes)
    for step in range(steps + 1):
        codes = codes.detach().requires_grad_()
        here, drawn = loss(
            codes
        )  # also for the last one with gradients, whose forward pass is the faster one in bfloat16
        if callback:
            callback(step, float(here.detach()))
        if float(here.detach()) < lowest:
            damping = damping * _AFTER_SUCCESS if step else damping
            best, best_drawn, lowest = codes.detach(), drawn.detach(), float(here.detach())
            if step < steps:
                (gradient,) = torch.autograd.grad(here, codes)
        else:
            damping *= _AFTER_FAILURE
        codes = best + curvature.step(gradient, damping)
    return best, best_drawn, best.new_tensor([lowest])


def measure(model: PSP, codes: Tensor, directions: int, probes: int, rng: torch.Generator) -> Curvature:
    """The curvature of ``LOSS`` at ``codes [b k d]`` (in ``w_unit``, from the average), by ``probes`` for each picture.

    A loss that is a sum of squares |r|² has the Gauss-Newton curvature 2 JᵀJ, and the gradient of v·r for white noise
    v has the covariance JᵀJ. LPIPS is such a sum, and so, for vectors of unit length, is 1 - cosine.
    """
    lpips, identity = LPIPS("alex").to(codes.device), Identity("mobilefacenet").to(codes.device)
    found = []
    for some in torch.split(codes, 8):
        points = some.detach().clone().requires_grad_()
        residuals = _residuals(model.draw_to_compare(points * model.w_unit + model.w_avg), lpips, identity)
        for probe in range(probes):
            noise = (torch.randn(part.shape, generator=rng).to(part) for part in residuals)
            total = torch.stack([(part * v).sum() for part, v in zip(residuals, noise, strict=True)]).sum()
            (gradient,) = torch.autograd.grad(total, points, retain_graph=probe + 1 < probes)
            found.append(gradient.flatten(1))
    gathered = torch.cat(found)
    _, lengths, axes = torch.linalg.svd(gathered / math.sqrt(len(gathered)), full_matrices=False)
    return Curvature(axes[:directions], 2 * lengths[:directions].square())


def _residuals(images: Tensor, lpips: LPIPS, identity: Identity) -> list[Tensor]:
    """The terms whose squares ``LOSS`` sums, of pictures ``[b 3 s s]``."""
    found = [images * math.sqrt(LOSS.l2 / images[0].numel())]
    for level, head in zip(lpips.features(images), lpips.heads, strict=True):
        found.append(level * (LOSS.lpips * head[:, None, None].clamp(min=0) / level[0, 0].numel()).sqrt())
    found.append(unit_length(identity.features(images)) * math.sqrt(LOSS.identity / 2))
    return found
