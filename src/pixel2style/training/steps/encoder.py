"""A step of an encoder: encode, draw, compare (pSp, section 3), ``iterations`` times (ReStyle).

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``r`` resolution at which pictures are drawn.
"""

import torch
from torch import Tensor

from ...metrics.losses import Reconstruction, detail
from ...models.inversion import Inversion
from ...models.psp import PSP
from ...ops import area, pooled
from ..batches import Part, parts
from ..dataset import step_rng
from ..state import State, TrainContext
from . import Passes, backward
from .rows import RowTargets


class EncoderStep:
    """A ``Step``: the parts of the batch one after another, each encoded ``iterations`` times.

    Until ``rows_until`` rows are only compared to those of ``rows``.
    """

    def __init__(self, rows: RowTargets | None = None):
        self.rows = rows

    def __call__(self, state: State, context: TrainContext) -> Passes:
        """See ``Step``."""
        losses: list[dict[str, Tensor]] = []
        codes: list[Tensor] = []
        for part in parts(state, context):
            if self.rows is not None and state.step < context.config.rows_until:
                part_losses, own = self.rows(part, state, context)
                losses.append(part_losses)
                codes.append(own[: part.photographs])
                continue
            part_losses, made = _passes(part, state, context)
            losses.append(part_losses)
            codes.append(made.codes.detach()[: part.photographs].float())
        return Passes(losses, torch.cat(codes))

    def invert(self, model: PSP, sources: Tensor, targets: Tensor) -> tuple[Tensor, Inversion]:
        """See ``Step``; the sources are the given ones."""
        sources = sources.to(model.w_avg.device)
        return sources, Inversion(model.encode(sources))


def _passes(part: Part, state: State, context: TrainContext) -> tuple[dict[str, Tensor], Reconstruction]:
    """The losses of all iterations, and the last reconstruction; each has its backward pass."""
    config, objective, model = context.config, context.objective, state.model
    iterations = 1 if state.step < config.one_iteration_until else config.iterations
    with context.autocast():
        target = objective.target_of(part.targets, part.codes)
    images, ws, redrawn = model.fit(part.sources), None, None
    losses: dict[str, Tensor] = {}
    for iteration in range(1, iterations + 1):
        with context.autocast():
            ws = model.step(images, ws, redrawn)
            drawn = context.draw(ws).float()
            delta = ws - model.w_avg
            made = Reconstruction(target, delta, delta / model.w_unit, model.to_compare(drawn))
            loss, terms = objective(made)
            if part.full is not None:
                rng = step_rng(config.seed, state.step)
                terms["detail"] = detail(drawn[-len(part.full) :], part.full, objective, rng)
                loss = loss + config.loss.detail * terms["detail"]
        backward(loss / (iterations * config.accumulate), state, context)
        ws = ws.detach()
        if iteration < iterations:
            redrawn = model.framed(area(pooled(drawn.detach()), images.shape[-1]))
        suffix = "" if iteration == iterations else f"_look{iteration}"
        losses |= {f"{name}{suffix}": value.detach() for name, value in {"loss": loss, **terms}.items()}
    return losses, made
