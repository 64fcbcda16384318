"""Steps in which nothing is drawn: rows are compared to those that a model of photographs gives to the target.

An encoder of drawings learns from it what a drawing has in common with a photograph, for a fraction of the time. Where
the generator's curvature is known, rows are compared by what their difference changes in the picture.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``n`` directions.
"""

import torch
from torch import Tensor

from ...config import TrainConfig
from ...errors import ConfigError
from ...inference.optimize import newton
from ...models.psp import PSP
from ..batches import Part
from ..state import State, TrainContext
from . import backward

PLAIN = 0.3
"""Weight of the mean squared difference of codes beside that by curvature."""


class RowTargets:
    """The rows of a model of photographs, and the distance to them.

    Raises ConfigError where the ``teacher`` reads no photographs or has another generator than ``model``.
    """

    def __init__(self, teacher: PSP, model: PSP, config: TrainConfig):
        if teacher.source_channels != 3 or teacher.config.generator != model.config.generator:
            raise ConfigError(
                f"--teacher {config.teacher} does not give rows of photographs for this generator: choose another"
            )
        self.teacher = teacher.to(model.w_avg.device).requires_grad_(False).eval()
        curvature = newton.bundled(model)
        self.curvature = None if curvature is None else curvature.to(model.w_avg.device)

    @torch.no_grad()
    def of(self, photographs: Tensor) -> Tensor:
        """Codes ``[b k d]`` of photographs ``[b 3 s s]``: one pass of the teacher."""
        fitted = self.teacher.fit(photographs)
        return ((self.teacher.step(fitted, None, None) - self.teacher.w_avg) / self.teacher.w_unit).float()

    def distance(self, difference: Tensor) -> Tensor:
        """What a difference of codes ``[b k d]`` changes in the picture, to the second order, and its mean square."""
        plain = difference.square().mean()
        if self.curvature is None:
            return plain
        along = difference.flatten(1) @ self.curvature.directions.T
        return 0.5 * (self.curvature.values * along.square()).sum(1).mean() + PLAIN * plain

    def __call__(self, part: Part, state: State, context: TrainContext) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a part of the batch, after its backward pass, and its codes ``[b k d]``."""
        model = state.model
        with context.autocast():
            codes = (model.step(model.fit(part.sources), None, None) - model.w_avg) / model.w_unit
            wanted = self.of(part.targets)
        loss = self.distance(codes.float() - wanted)
        backward(loss / context.config.accumulate, state, context)
        return {"loss": loss.detach(), "rows": loss.detach()}, codes.detach().float()
