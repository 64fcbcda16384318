"""The pictures of a step: photographs with their sources, and generated pictures whose rows are known.

Axes: ``b`` batch, ``c`` channels, ``s`` side, ``n`` pictures in the bank, ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import TrainConfig
from ..generators.sampling import draw
from .dataset import Pictures, make_sources, sample_seeds, step_rng
from .distributed import share
from .state import State, TrainContext

if TYPE_CHECKING:
    from accelerate import Accelerator


def at_full_size(config: TrainConfig, step: int) -> bool:
    """Whether the pictures of a step are drawn at the generator's full size."""
    return config.full_size and step >= config.detail.full_size_from


def photographs_at(config: TrainConfig, step: int) -> int:
    """Pictures of data in the joint batch of a step."""
    return (at_full_size(config, step) and config.detail.full_batch) or config.batch


def generated_at(config: TrainConfig, step: int) -> int:
    """Generated pictures in the joint batch of a step; a detail encoder needs them at full size only."""
    return config.generated if config.network == "encoder" or at_full_size(config, step) else 0


def pictures_at(config: TrainConfig, step: int) -> int:
    """Pictures in the joint batch of a step."""
    return photographs_at(config, step) + generated_at(config, step)


class ReadAhead:
    """This process's photographs of each step; those of the next step are read in the background."""

    def __init__(self, pictures: Pictures, config: TrainConfig, accelerator: "Accelerator"):
        self.pictures, self.config, self.accelerator = pictures, config, accelerator
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[tuple[Tensor, Tensor]]] | None = None

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """Sources ``[b c s s]`` and targets ``[b 3 256 256]``, on the CPU. Raises ImageError for an unreadable file."""
        waiting = self._next[1] if self._next and self._next[0] == step else self._start(step)
        found = waiting.result()
        self._next = (step + 1, self._start(step + 1))
        return found

    def _start(self, step: int) -> Future[tuple[Tensor, Tensor]]:
        seeds = sample_seeds(self.config.seed, step, photographs_at(self.config, step))
        return self._pool.submit(self.pictures.batch, share(seeds, self.accelerator))


@dataclass(frozen=True)
class Part:
    """Pictures that one process encodes at once, on its device.

    The last ``len(codes)`` pictures are generated, from known ``codes [n k d]``. ``full [n 3 r r]`` are these at the
    generator's full size, None unless the loss compares details.
    """

    sources: Tensor
    targets: Tensor
    codes: Tensor | None = None
    full: Tensor | None = None

    @property
    def photographs(self) -> int:
        """How many of the pictures are not generated."""
        return len(self.targets) - (0 if self.codes is None else len(self.codes))


@torch.no_grad()
def parts(state: State, context: TrainContext) -> Iterator[Part]:
    """This process's share of a step, in as many parts as the run accumulates. Raises ImageError, before the first."""
    config, model = context.config, state.model
    sources, targets = (pictures.to(context.device) for pictures in context.batches.read(state.step))
    size = len(targets) // config.accumulate
    pairs = zip(torch.split(sources, size), torch.split(targets, size), strict=True)
    if not config.generated:
        yield from (Part(*pair) for pair in pairs)
        return
    codes, seeds = generated_codes(state, context)
    size = len(codes) // config.accumulate
    for index, (source, target) in enumerate(pairs):
        chosen = slice(index * size, (index + 1) * size)
        with context.accelerator.autocast():
            full = context.draw(codes[chosen] * model.w_unit + model.w_avg).float()
        small = model.to_compare(full).clamp(-1, 1)
        own = make_sources(context.task, small, seeds[chosen], config.source, config.mirror)
        yield Part(
            torch.cat([source, own]),
            torch.cat([target, small]),
            codes[chosen],
            full if config.full_size and config.loss.detail else None,
        )


def generated_codes(state: State, context: TrainContext) -> tuple[Tensor, Sequence[int]]:
    """Codes ``[b k d]`` from which this process's generated pictures are drawn, and the seeds of their sources."""
    config, model = context.config, state.model
    rng = step_rng(config.seed, state.step)
    w = draw(model.generator, 3 * config.generated, rng, model.w_unit)
    codes = mix_codes((w - model.w_avg[0]) / model.w_unit, state.bank, rng)
    return torch.cat(list(share(torch.split(codes, 1), context.accelerator))), generated_seeds(
        config, state.step, context
    )


def generated_seeds(config: TrainConfig, step: int, context: TrainContext) -> Sequence[int]:
    """A seed for each of this process's generated pictures of a step."""
    first, count = photographs_at(config, step), generated_at(config, step)
    return share(sample_seeds(config.seed, step, first + count)[first:], context.accelerator)


def mix_codes(w_codes: Tensor, bank: Tensor, rng: torch.Generator) -> Tensor:
    """Codes of pictures worth reconstructing: ``[3b d]`` mapped codes and a bank ``[n k d]`` to ``[b k d]``.

    Each picture takes its rows from up to three codes, cut at random rows. Half of the pictures take mapped codes,
    truncated by 0.7 to 1; the other half take encoded photographs from the bank, with a little noise.
    """
    rows = bank.shape[1]
    count = len(w_codes) // 3
    device = w_codes.device
    truncation = (0.7 + 0.3 * torch.rand(count, 1, 1, 1, generator=rng)).to(device)
    mapped = w_codes.reshape(count, 3, 1, -1) * truncation
    chosen = torch.randint(len(bank), (count, 3), generator=rng).to(device)
    encoded = bank[chosen] + 0.15 * torch.randn(count, 3, rows, bank.shape[2], generator=rng).to(device)
    from_bank = (torch.rand(count, 1, 1, 1, generator=rng) < 0.5).to(device)
    sources = torch.where(from_bank, encoded, mapped.expand(-1, -1, rows, -1))
    return join_rows(sources, rng)


def join_rows(sources: Tensor, rng: torch.Generator) -> Tensor:
    """``[b 3 k d] -> [b k d]``: the first rows of one source, then of the next, cut at two random rows."""
    count, _, rows, width = sources.shape
    cuts = torch.randint(-rows // 2, rows + rows // 2, (count, 2), generator=rng).sort(1).values
    row = torch.arange(rows)
    source = ((row >= cuts[:, :1]).long() + (row >= cuts[:, 1:]).long()).to(sources.device)
    return sources.gather(1, source[:, None, :, None].expand(-1, 1, -1, width))[:, 0]
