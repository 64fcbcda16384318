"""A step of a detail encoder: residuals for frozen rows, draw, compare (``models.detail``).

The encoder of rows and the generator are frozen, so the rows stay those that everything else uses. At full size there
are generated pictures too, since their full-size pixels are known, and two more terms (``metrics.full_size``).

Axes: ``b`` pictures, ``p`` photographs and ``g`` generated ones of them, ``k`` rows, ``d`` width of a row, ``i`` side
of the detail encoder's input, ``r`` side of a full-size picture, ``s`` cells of roughness along a side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config import LossConfig
from ...images import resize
from ...metrics.full_size import excess, roughness, windows
from ...metrics.losses import Reconstruction
from ...models.inversion import Inversion
from ...models.psp import PSP
from ...ops import pooled
from ..batches import at_full_size, generated_seeds
from ..state import State, TrainContext
from . import Passes, backward
from .frozen import FrozenNetworks, joined


@dataclass(frozen=True)
class Batch:
    """Pictures ``[b 3 256 256]``, their rows ``[b k d]`` and what these draw ``[b 3 i i]``, on the device.

    ``shown`` ``[b 3 256 256]`` is what the network gets of the pictures (``Task.shown``).
    At full size (``size`` r) there may be the roughness ``rough [p 1 s s]`` of what the photographs' rows draw, and the
    true pixels ``full [g 3 r r]`` of generated pictures, which are the last ones; ``seeds`` choose their windows.
    """

    size: int
    images: Tensor
    ws: Tensor
    drawn: Tensor
    shown: Tensor
    rough: Tensor | None = None
    full: Tensor | None = None
    seeds: Sequence[int] = ()


@dataclass(frozen=True)
class DetailStep:
    """A ``Step``: the parts of the batch one after another, on what the frozen networks make of them."""

    frozen: FrozenNetworks

    def __call__(self, state: State, context: TrainContext) -> Passes:
        """See ``Step``."""
        losses: list[dict[str, Tensor]] = []
        for batch in self._batches(state, context):
            with context.autocast():
                loss, terms = loss_of(batch, state.model, context)
            backward(loss / context.config.accumulate, state, context)
            losses.append({name: value.detach() for name, value in {"loss": loss, **terms}.items()})
        return Passes(losses)

    def invert(self, model: PSP, sources: Tensor, targets: Tensor) -> tuple[Tensor, Inversion]:
        """See ``Step``; sources are those that the frozen networks make of the targets."""
        found = self.frozen.photographs(targets)
        return found["shown"], Inversion(found["ws"], _residuals(model, found["shown"], found["drawn"], found["ws"]))

    def _batches(self, state: State, context: TrainContext) -> Iterator[Batch]:
        """The parts of this process's share. Raises ImageError, before the first."""
        config, full = context.config, at_full_size(context.config, state.step)
        targets = context.batches.read(state.step)[1]
        seeds = generated_seeds(config, state.step, context)
        rough = full and config.loss.roughness > 0
        parts = torch.split(targets, len(targets) // config.accumulate)
        count = len(seeds) // config.accumulate
        for index, images in enumerate(parts):
            own = seeds[index * count : (index + 1) * count]
            found = {"images": images.to(context.device), **self.frozen.photographs(images, rough)}
            if own:
                made = joined([self.frozen.generated(seed % config.detail.pool) for seed in own])
                found |= made | {name: torch.cat([found[name], made[name]]) for name in found.keys() & made.keys()}
            size = state.model.generator.size if full else state.model.compare_size
            yield Batch(size, **found, seeds=own)


def loss_of(batch: Batch, model: PSP, context: TrainContext) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its unweighted terms."""
    objective, weights = context.objective, context.config.loss
    residuals = _residuals(model, batch.shown, batch.drawn, batch.ws)
    made = model.generator.synthesize(batch.ws, batch.size, residuals=residuals).float()
    none = batch.ws[:0]
    loss, terms = objective(Reconstruction(objective.target_of(batch.images), none, none, pooled(made)))
    own = _residual_terms(model, residuals)
    if batch.rough is not None:
        own["roughness"] = excess(made[: len(batch.rough)], batch.rough)
    if batch.full is not None and objective.lpips is not None and weights.windows:
        here, wanted = _windows(made[-len(batch.full) :], batch.full, batch.seeds, context.task.faces)
        own["windows"] = objective.lpips(here, wanted).mean() + (here - wanted).square().mean()
    return loss + weighted(own, weights), terms | own


@torch.no_grad()
def validation_terms(model: PSP, inversion: Inversion, made: Tensor, weights: LossConfig) -> dict[str, Tensor]:
    """The own terms of pictures ``made [b 3 r r]`` that need no generated ones; none without features."""
    if not inversion.features:
        return {}
    own = _residual_terms(model, inversion.features)
    if weights.roughness and made.shape[-1] > model.compare_size:
        own["roughness"] = excess(made, roughness(model.decode(inversion.ws).float().clamp(-1, 1)))
    return own


def weighted(own: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """The weighted sum of the terms that a detail encoder has beyond those of an ``Objective``."""
    factors = {name: weights.residual if name.startswith("residual") else getattr(weights, name) for name in own}
    return torch.stack([factors[name] * value for name, value in own.items()]).sum()


def _residuals(model: PSP, shown: Tensor, drawn: Tensor, ws: Tensor) -> dict[int, Tensor]:
    """What the detail encoder finds for rows ``[b k d]``, by the side of the map."""
    detail = model.detail
    assert detail is not None
    shown, drawn = (resize(pictures, detail.input_size) for pictures in (shown, drawn))
    residuals: dict[int, Tensor] = detail(shown, drawn, model.generator.features(ws, detail.config.side))
    return residuals


def _residual_terms(model: PSP, residuals: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """The mean square of each residual, in units of the deviation of its map."""
    assert model.detail is not None
    return {f"residual{side}": value.square().mean() for side, value in model.detail.in_units(residuals).items()}


def _windows(made: Tensor, full: Tensor, seeds: Sequence[int], faces: bool) -> tuple[Tensor, Tensor]:
    """Windows of drawn and of true pixels ``[g 3 r r]``, which each picture's own seed chooses."""
    pairs = zip(torch.split(made, 1), torch.split(full, 1), seeds, strict=True)
    cut = [windows([one, other], torch.Generator().manual_seed(seed), faces) for one, other, seed in pairs]
    return torch.cat([here for here, _ in cut]), torch.cat([wanted for _, wanted in cut])
