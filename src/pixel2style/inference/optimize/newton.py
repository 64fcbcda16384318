"""Correct an encoder's rows in a few steps: descend on one picture's loss, with curvature that is known beforehand.

Adam needs dozens of steps on rows (``refine``), because some ways of moving them change a picture ten thousand times
as much as others, and it has to find that out each time. Which ways these are depends on the generator far more than on
the picture. So it is measured once, as the curvature of the loss averaged over pictures (Gauss-Newton), and every
picture takes damped Newton steps in it (Levenberg 1944, Marquardt 1963): one step gives what ten of Adam's do not, and
rows move so little that edits keep working.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``n`` directions, ``p`` probes, ``s`` side of a picture.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from ... import assets
from ...config import LossConfig
from ...metrics.identity import Identity
from ...metrics.losses import Objective, Reconstruction, Target
from ...metrics.lpips import LPIPS, unit_length
from ...models.psp import PSP
from ...ops import pooled

LOSS = LossConfig(l2=1.0, lpips=0.8, identity=0.1)
"""The paper's for inversion."""
BUNDLED = {"mobilestylegan": "curvature"}
"""Whose curvature is in the box, and under which name."""
DAMPING = 0.004
"""Curvature that every direction has at least, to begin with: the best of .0015, .003 and .006 on 12 photographs."""
_TRUST, _DOUBT = 0.7, 4.0


@dataclass(frozen=True)
class Curvature:
    """How steeply the loss bends along directions of all rows at once, in the model's ``w_unit``.

    ``directions [n k*d]`` are orthonormal and sorted, ``values [n]`` the second derivatives along them; what is
    perpendicular to all of them counts as flat.
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
    """The curvature that is in the box for a model's generator, however it was tuned; None where there is none."""
    name = BUNDLED.get(model.config.generator.kind)
    if name is None:
        return None
    found = assets.read(name)
    return Curvature(found["directions"].float() * found["unit"][:, None], found["values"])


class Corrector:
    """What corrects rows of one model: its curvature and the judges, loaded once.

    ``loss`` weighs the judges. Networks compute in bfloat16 if ``bf16`` says so, or, without a word, if this processor
    has instructions for it: gradients are then a tenth off, and steps are as good in two thirds of the time.
    """

    def __init__(self, model: PSP, curvature: Curvature, loss: LossConfig = LOSS, bf16: bool | None = None):
        self.model, self.device = model, model.w_avg.device
        self.bf16 = _quick_in_bf16(self.device) if bf16 is None else bf16
        self.curvature = curvature.to(self.device)
        self.objective = Objective(loss).to(self.device)

    def __call__(
        self,
        images: Tensor,
        ws: Tensor,
        steps: int,
        *,
        shown: Callable[[Tensor], Tensor] | None = None,
        watch: Callable[[int, float], None] | None = None,
    ) -> Tensor:
        """Better rows ``[b k d]`` for ``images [b 3 h w]`` than ``ws [b k d]``, each picture's by itself.

        A step that makes a picture's loss larger is taken back and tried again shorter, so rows are never worse than
        they were. Where ``images`` show less than a whole picture, ``shown`` does the same to drawn ones, as in
        ``refine.optimize_rows``; curvature is then overstated, and steps are short. ``watch`` is told each step's
        number and the loss that it reached. Nothing is random, but what bfloat16 rounds depends on the processor.
        """
        model, corrected = self.model, []
        precision = torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        with torch.inference_mode(False), torch.enable_grad(), precision:
            photographs, rows = (given.to(self.device, torch.float32).clone() for given in (images, ws))
            for image, row in zip(photographs, rows, strict=True):
                target = self.objective.target_of(pooled(image[None]))
                start = ((row[None] - model.w_avg) / model.w_unit).detach()
                loss_at = partial(self._loss, target=target, shown=shown)
                found = _descended(loss_at, start, steps, self.curvature, watch)
                corrected.append(found * model.w_unit + model.w_avg)
        return torch.cat(corrected)

    def _loss(self, codes: Tensor, target: Target, shown: Callable[[Tensor], Tensor] | None) -> Tensor:
        away = codes * self.model.w_unit
        picture = self.model.draw_to_compare(away + self.model.w_avg)
        if shown is not None:
            with torch.autocast(self.device.type, enabled=False):  # what is known was made in float32
                picture = shown(picture)
        return cast(Tensor, self.objective(Reconstruction(target, away, codes, picture))[0])


def _descended(
    loss_at: Callable[[Tensor], Tensor],
    codes: Tensor,
    steps: int,
    curvature: Curvature,
    watch: Callable[[int, float], None] | None,
) -> Tensor:
    best, lowest, damping = codes, math.inf, DAMPING
    gradient = torch.zeros_like(codes)
    for step in range(steps + 1):
        codes = codes.detach().requires_grad_()
        here = loss_at(codes)  # the last one, too: in 16 bits the way that can go back is the faster one
        if watch:
            watch(step, float(here.detach()))
        if float(here.detach()) < lowest:
            damping = damping * _TRUST if step else damping
            best, lowest = codes.detach(), float(here.detach())
            if step < steps:
                (gradient,) = torch.autograd.grad(here, codes)
        else:
            damping *= _DOUBT
        codes = best + curvature.step(gradient, damping)
    return best


def measure(model: PSP, codes: Tensor, directions: int, probes: int, rng: torch.Generator) -> Curvature:
    """The curvature of ``LOSS`` at ``codes [b k d]`` (in ``w_unit`` about the average), from ``probes`` a picture.

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
    _, lengths, ways = torch.linalg.svd(gathered / math.sqrt(len(gathered)), full_matrices=False)
    return Curvature(ways[:directions], 2 * lengths[:directions].square())


def _residuals(images: Tensor, lpips: LPIPS, identity: Identity) -> list[Tensor]:
    """What ``LOSS`` squares and sums, of pictures ``[b 3 s s]``."""
    found = [images * math.sqrt(LOSS.l2 / images[0].numel())]
    for level, head in zip(lpips.features(images), lpips.heads, strict=True):
        found.append(level * (LOSS.lpips * head[:, None, None].clamp(min=0) / level[0, 0].numel()).sqrt())
    found.append(unit_length(identity.features(images)) * math.sqrt(LOSS.identity / 2))
    return found


def _quick_in_bf16(device: torch.device) -> bool:
    told = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # there is no public way to ask
    return device.type == "cpu" and told is not None and bool(told())
