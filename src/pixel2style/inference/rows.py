"""Rows of pictures, brought closer to what their sources show: which optimiser takes the steps, and how many.

Where the source shows the result itself, or a degraded version of it, steps go down the distance of pictures: Newton's
if the generator's curvature is known, else Adam's. Where it is a drawing, they go down what the task says of agreement
(``Task.agreement``).

Axes: ``b`` batch, ``n`` samples, ``c s`` channels and side of a source, ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .. import tasks
from ..editing import latents
from ..errors import ConfigError
from ..metrics.losses import Objective
from ..models.psp import PSP
from ..tasks import Task
from ..tasks.request import Prepared, Request
from ..tasks.task import FOLLOWING
from . import prepare as preparation
from . import refine as refinement
from .optimize import adam, agreement, newton


@dataclass(frozen=True)
class Fitted:
    """Rows ``ws [b k d]``, and, after Newton steps, what they draw, ``[b 3 256 256]``, and its distance, ``[b]``.

    The distance is the loss, plus the mean squared distance of the rows from the average in deviations of W.
    """

    ws: Tensor
    drawn: Tensor | None = None
    distances: Tensor | None = None


class Fitter:
    """Takes the steps of one model's pictures. ``bf16`` is as of ``newton.optimize``."""

    def __init__(self, model: PSP, bf16: bool | None = None):
        self.model, self._bf16 = model, bf16

    def fit(self, batch: Sequence[Prepared], ws: Tensor, request: Request) -> Fitted:
        """The encoder's rows ``[b k d]`` after the steps that are asked for, or usual. Raises as ``follow`` does."""
        if self._follows:
            return Fitted(torch.cat([self.follow(one.source, own[None], request) for one, own in _each(batch, ws)]))
        steps = self.steps(request)
        if not steps:
            return Fitted(ws)
        if self.curvature is None:
            return Fitted(torch.cat([self._by_adam(one, own[None], steps) for one, own in _each(batch, ws)]))
        found = [self._by_newton(one, own[None], steps) for one, own in _each(batch, ws)]
        rows, drawn, losses = (torch.cat(parts) for parts in zip(*found, strict=True))
        codes = (rows - self.model.w_avg) / self.model.w_unit
        return Fitted(rows, drawn, losses + codes.square().mean((1, 2)))

    def follow(self, source: Tensor, ws: Tensor, request: Request) -> Tensor:
        """Rows ``[n k d]`` whose pictures follow one drawing ``[c s s]`` better; the same ones for other sources.

        Rows that were taken from a photograph, ``Request.like``, stay.
        Raises ConfigError where such steps are asked for, and this model cannot take them.
        """
        self.check(request)
        steps = self.steps(request) if self._follows else 0
        liked = latents.parse_rows(preparation.look(request)[0], ws.shape[1]) if request.like else []
        disagreement = self._disagreement(source.to(ws.device)) if steps and len(liked) < ws.shape[1] else None
        if disagreement is None:
            return ws
        return agreement.agree(
            self.model, ws, disagreement, steps, still=liked, curvature=self.curvature, bf16=self._bf16
        )

    def check(self, request: Request) -> None:
        """Raise ConfigError where steps towards a drawing are asked for, and this model cannot take them."""
        if request.refine and self._follows and self._obstacle:
            raise ConfigError(
                f"--refine makes a face follow its drawing, and this model has {self._obstacle}: leave it out"
            )

    def steps(self, request: Request) -> int:
        """How many steps the rows of each picture take."""
        if request.refine is not None:
            return request.refine
        if self._task is None or self.curvature is None:
            return 0
        if self._follows:
            return 0 if self._obstacle else FOLLOWING
        return int(self._task.refinable)

    @cached_property
    def curvature(self) -> newton.Curvature | None:
        """That of the model's generator, where it is known."""
        with torch.inference_mode(False):
            found = newton.bundled(self.model)
            return None if found is None else found.to(self.model.w_avg.device)

    def _by_newton(self, prepared: Prepared, ws: Tensor, steps: int) -> newton.Optimized:
        """Rows ``[1 k d]`` that fit what the source shows better than ``ws [1 k d]``."""
        return newton.steps_of(
            self.model, prepared.source[None, :3], ws, steps,
            degradation=prepared.degradation, objective=self._newton_objective,
            curvature=self.curvature, bf16=self._bf16,
        )  # fmt: skip

    def _by_adam(self, prepared: Prepared, ws: Tensor, steps: int) -> Tensor:
        """The same where no curvature is known."""
        return adam.optimize(
            self.model, prepared.source[None, :3], ws, steps,
            degradation=prepared.degradation, objective=self._adam_objective,
        )  # fmt: skip

    @cached_property
    def objective(self) -> Objective:
        """The loss of refinement, and its networks, which all steps share."""
        with torch.inference_mode(False):
            return refinement.objective_of(self._faces).to(self.model.w_avg.device)

    @cached_property
    def _newton_objective(self) -> Objective:
        return self.objective.weighted(newton.LOSS if self._faces else replace(newton.LOSS, identity=0.0))

    @cached_property
    def _adam_objective(self) -> Objective:
        return self.objective.weighted(adam.LOSS)

    def _disagreement(self, source: Tensor) -> agreement.Disagreement | None:
        """What tells how little pictures agree with a drawing ``[c s s]``; None where nothing can."""
        task = self._task
        return None if task is None or task.agreement is None else task.agreement(source, self.model.config.source)

    @cached_property
    def _obstacle(self) -> str:
        """What the model has that keeps its faces from following drawings; "" for nothing."""
        if self.curvature is None:
            return "a generator whose curvature is not known"
        blank = self.model.w_avg.new_zeros(self.model.source_channels, 1, 1)
        return "" if self._disagreement(blank) else "classes of which it is not known that they are the parser's"

    @property
    def _faces(self) -> bool:
        return self._task is None or self._task.faces

    @property
    def _follows(self) -> bool:
        """Whether sources are drawings that pictures can be compared with."""
        return self._task is not None and self._task.agreement is not None

    @property
    def _task(self) -> Task | None:
        return tasks.task_or_none(self.model.config.task)


def _each(batch: Sequence[Prepared], ws: Tensor) -> "zip[tuple[Prepared, Tensor]]":
    return zip(batch, ws, strict=True)
