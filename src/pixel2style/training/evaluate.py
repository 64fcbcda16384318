"""What a run's model makes of pictures: losses, scores, and rows of a table to look at.

Deterministic: the same weights give the same numbers, since validation pictures are never mirrored and what is random
in their sources follows from their place. This module does not know when a run is judged (``train``).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..metrics.losses import Reconstruction
from ..metrics.scores import Scorer, Scores
from ..models import input_channels
from ..models.psp import PSP
from ..ops import pooled
from . import logging
from .dataset import Pictures, seeds
from .step import State, Teacher

AT_ONCE = 16
"""Pictures that are judged at once, where a step has as many: whoever has the memory to learn has it to judge."""
SHOWN = 8
"""Pictures of a table."""


@dataclass
class Judgement:
    """What validation pictures say: mean losses, mean scores, and the first pictures with their own scores."""

    losses: dict[str, float]
    scores: dict[str, float]
    rows: list[logging.Row] = field(default_factory=list)


@torch.no_grad()
def judge(state: State, teacher: Teacher, judges: Scorer, pictures: Pictures, shown: int = SHOWN) -> Judgement:
    """Losses and scores of the averaged encoder on all of ``pictures``, a table of the first ``shown``."""
    with at_rest(state) as model:
        return _judged(model, teacher, judges, pictures, shown)


@contextlib.contextmanager
def at_rest(state: State) -> Iterator[PSP]:
    """The averaged encoder's model as it is used; whoever goes on learning afterwards is as it was before."""
    learning = state.average.training
    try:
        yield state.averaged().eval()
    finally:
        state.average.train(learning)


def _judged(model: PSP, teacher: Teacher, judges: Scorer, pictures: Pictures, shown: int) -> Judgement:
    totals: dict[str, float] = {}
    scores: list[Scores] = []
    rows: list[logging.Row] = []
    count = max(1, min(AT_ONCE, len(teacher.share(range(teacher.config.batch))) // teacher.config.accumulate))
    for first in range(0, len(pictures), count):
        sources, targets = (part.to(teacher.device) for part in pictures.fixed(first, first + count))
        ws, drawn = _drawn(model, sources, teacher)
        away = ws - model.w_avg
        picture = sources.shape[1] == targets.shape[1] and not teacher.task.classes
        shown_as_it_is = pooled(sources) if picture else None
        target = teacher.objective.target_of(targets, sources=shown_as_it_is)
        made = Reconstruction(target, away, away / model.w_unit, pooled(drawn))
        loss, terms = teacher.objective(made)
        for name, value in {"loss": loss, **terms}.items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(targets)
        scores.append(judges(drawn, targets))
        names = pictures.names[first : first + len(targets)][: max(0, shown - len(rows))]
        rows += table(
            names, input_channels.to_rgb(sources[: len(names)], teacher.task.classes), targets, drawn, scores[-1]
        )
    totals.pop("code_regression", None)  # nobody knows the rows of a photograph
    losses = {name: total / len(pictures) for name, total in totals.items()}
    return Judgement(losses, Scores.joined(scores).means(), rows)


@torch.no_grad()
def training_rows(state: State, teacher: Teacher, judges: Scorer, shown: int = SHOWN) -> list[logging.Row]:
    """A table of what the averaged encoder makes of the first pictures of the step to come."""
    first = seeds(teacher.config.seed, state.step, teacher.config.batch)[:shown]
    sources, targets = (part.to(teacher.device) for part in teacher.pictures.batch(first))
    with at_rest(state) as model:
        _, drawn = _drawn(model, sources, teacher)
    names = [f"step {state.step}, {index}" for index in range(len(targets))]
    return table(names, input_channels.to_rgb(sources, teacher.task.classes), targets, drawn, judges(drawn, targets))


def _drawn(model: PSP, sources: Tensor, teacher: Teacher) -> tuple[Tensor, Tensor]:
    ws = model.encode(sources)
    drawn = model.decode(ws, None if teacher.config.full_size else model.compare_size)
    return ws, model.framed(drawn).float()


def table(names: Sequence[str], sources: Tensor, targets: Tensor, drawn: Tensor, scores: Scores) -> list[logging.Row]:
    """Source, target and output of the first ``len(names)`` pictures, with each one's scores."""
    count = len(names)
    outputs = pooled(drawn[:count]).float().cpu().clamp(-1, 1)
    shown = zip(names, sources[:count].float().cpu(), targets[:count].float().cpu(), outputs, strict=True)
    return [
        logging.Row(name, {"source": source, "target": target, "output": output}, scores.of(index))
        for index, (name, source, target, output) in enumerate(shown)
    ]
