"""Evaluation of a run's averaged model: losses, scores, and examples to look at.

Deterministic: the same weights give the same numbers, since validation pictures are never mirrored and what is random
in their sources follows from their index.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics.losses import Reconstruction
from ..metrics.scores import Scorer, Scores
from ..models import input_channels
from ..models.inversion import Inversion
from ..models.psp import PSP
from ..ops import pooled
from .dataset import Pictures, sample_seeds
from .distributed import share
from .logging import Row
from .state import State, TrainContext
from .steps.detail import validation_terms, weighted

MAX_BATCH = 16
"""Most pictures that are evaluated at once; never more than a part of a training step has, which is known to fit."""
EXAMPLES = 8
"""Pictures shown of each evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """Mean losses and scores over the validation pictures, and the first pictures with their own scores."""

    losses: dict[str, float]
    scores: dict[str, float]
    rows: list[Row]


@torch.no_grad()
def evaluate(
    state: State, context: TrainContext, scorer: Scorer, pictures: Pictures, examples: int = EXAMPLES
) -> Evaluation:
    """Losses and scores of the averaged model on all of ``pictures``, and rows of the first ``examples``."""
    config, task, objective = context.config, context.task, context.objective
    totals: dict[str, float] = {}
    scores: list[Scores] = []
    rows: list[Row] = []
    batch = max(1, min(MAX_BATCH, len(share(range(config.batch), context.accelerator)) // config.accumulate))
    with state.inference() as model:
        for first in range(0, len(pictures), batch):
            given, targets = pictures.fixed(first, first + batch)
            sources, inversion = context.step.invert(model, given, targets)
            targets, drawn = targets.to(context.device), _drawn(model, inversion, config.full_size)
            delta = inversion.ws - model.w_avg
            photographs = sources.shape[1] == targets.shape[1] and not task.classes
            target = objective.target_of(targets, sources=pooled(sources) if photographs else None)
            loss, terms = objective(Reconstruction(target, delta, delta / model.w_unit, pooled(drawn)))
            if own := validation_terms(model, inversion, drawn, config.loss):
                loss, terms = loss + weighted(own, config.loss), terms | own
            for name, value in {"loss": loss, **terms}.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(targets)
            scores.append(scorer(drawn, targets))
            names = pictures.names[first : first + len(targets)][: max(0, examples - len(rows))]
            rows += _rows(names, input_channels.to_rgb(sources[: len(names)], task.classes), targets, drawn, scores[-1])
    totals.pop("code_regression", None)  # the rows of a photograph are not known
    losses = {name: total / len(pictures) for name, total in totals.items()}
    return Evaluation(losses, Scores.joined(scores).means(), rows)


@torch.no_grad()
def training_rows(state: State, context: TrainContext, scorer: Scorer, examples: int = EXAMPLES) -> list[Row]:
    """Rows of what the averaged model makes of the first photographs of the next step."""
    config = context.config
    seeds = sample_seeds(config.seed, state.step, config.batch)[:examples]
    given, targets = context.pictures.batch(seeds)
    with state.inference() as model:
        sources, inversion = context.step.invert(model, given, targets)
        targets, drawn = targets.to(context.device), _drawn(model, inversion, config.full_size)
    names = [f"step {state.step}, {index}" for index in range(len(targets))]
    return _rows(names, input_channels.to_rgb(sources, context.task.classes), targets, drawn, scorer(drawn, targets))


def _drawn(model: PSP, inversion: Inversion, full_size: bool) -> Tensor:
    """The pictures of rows and features, framed as the encoder sees them, in float32."""
    drawn = model.decode(inversion.ws, None if full_size else model.compare_size, inversion.features)
    return model.framed(drawn).float()


def _rows(names: Sequence[str], sources: Tensor, targets: Tensor, drawn: Tensor, scores: Scores) -> list[Row]:
    """Source, target and output of the first ``len(names)`` pictures, with the scores of each."""
    count = len(names)
    outputs = pooled(drawn[:count]).float().cpu().clamp(-1, 1)
    shown = zip(names, sources[:count].float().cpu(), targets[:count].float().cpu(), outputs, strict=True)
    return [
        Row(name, {"source": source, "target": target, "output": output}, scores.of(index))
        for index, (name, source, target, output) in enumerate(shown)
    ]
