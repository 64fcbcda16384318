"""How an encoder learns: ``steps`` takes one step after another and decides nothing (pSp, section 3).

The pictures of a step follow from the run's seed and the step's number alone, and every picture from its place in the
joint batch, so that a resumed run sees what an unbroken one would have seen, however many processes share the work. One
batch is encoded ``iterations`` times; the parts of a batch are accumulated; gradients are averaged over processes; then
one update is made. This module does not know when to log, judge, save or stop (``train``).

Axes: ``b`` batch, ``c`` channels, ``s`` side, ``k`` rows, ``d`` width of a row.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..errors import TrainingError
from ..generators.sampling import draw
from ..metrics.losses import Objective, Reconstruction, detail
from ..models.encoders import Encoder
from ..models.psp import PSP
from ..ops import area, pooled
from ..tasks import Task
from .dataset import Pictures, dice, mixed_codes, seeds, task_source
from .memory import StepInBackward, recast

if TYPE_CHECKING:
    from accelerate import Accelerator

BUCKET = 1 << 23
"""Numbers that processes exchange at once: 32 MB."""
PATIENCE = 20
"""Steps in a row without a finite gradient after which a run stops."""


@dataclass
class State:
    """All that a run is between two steps.

    ``average`` is the averaged encoder, or the learning one where the run keeps no average. ``bank`` holds the codes
    of the last pictures, ``[n k d]``. ``best`` is the least validation loss, seen at ``best_step``.
    """

    model: PSP
    average: Encoder
    optimizer: torch.optim.Optimizer | StepInBackward
    bank: Tensor
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: float = math.inf
    best_step: int = 0

    def averaged(self) -> PSP:
        """The model with the averaged encoder."""
        model = self.model
        return PSP(self.average, model.generator, model.config, model.w_avg, model.w_unit).to(self.bank.device)


@dataclass(frozen=True)
class Part:
    """What one process looks at at once; the rows of the last ``len(known)`` pictures are known.

    ``full`` are these, as large as the generator draws, where the run wants to see them.
    """

    sources: Tensor
    targets: Tensor
    known: Tensor | None = None
    full: Tensor | None = None


class Teacher:
    """What stays the same during a run: the configuration, the judges, the pictures and how rows are drawn."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        objective: Objective,
        pictures: Pictures,
        draw: Callable[[Tensor], Tensor],
        accelerator: "Accelerator",
    ):
        self.config, self.task, self.objective, self.pictures = config, task, objective, pictures
        self.draw, self.accelerator = draw, accelerator
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[tuple[Tensor, Tensor]]] | None = None

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return cast(torch.device, self.accelerator.device)

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """The run's numbers, without 16-bit copies of weights that are kept until the backward pass."""
        from accelerate.utils import AutocastKwargs

        thrifty = contextlib.nullcontext() if self.config.compile else recast()
        with self.accelerator.autocast(AutocastKwargs(cache_enabled=False)), thrifty:
            yield

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """This process's places of a joint batch."""
        size = len(items) // self.accelerator.num_processes
        first = self.accelerator.process_index * size
        return items[first : first + size]

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's sources and targets of a step; those of the next one are read meanwhile."""
        count = self.config.batch

        def begin(number: int) -> Future[tuple[Tensor, Tensor]]:
            return self._pool.submit(self.pictures.batch, self.share(seeds(self.config.seed, number, count)))

        waiting = self._ahead[1] if self._ahead and self._ahead[0] == step else begin(step)
        found = waiting.result()
        self._ahead = (step + 1, begin(step + 1))
        return found

    @torch.no_grad()
    def parts(self, state: State) -> Iterator[Part]:
        """A step's pictures, in as many parts as the run accumulates."""
        config, device = self.config, self.device
        sources, targets = (pictures.to(device) for pictures in self.read(state.step))
        size = len(targets) // config.accumulate
        pairs = zip(torch.split(sources, size), torch.split(targets, size), strict=True)
        if not config.generated:
            yield from (Part(*pair) for pair in pairs)
            return
        codes, numbers = self.known(state)
        made = len(codes) // config.accumulate
        for pair, known, own in zip(pairs, torch.split(codes, made), _split(numbers, made), strict=True):
            with self.accelerator.autocast():
                full = self.draw(known * state.model.w_unit + state.model.w_avg).float()
            small = pooled(state.model.framed(full)).clamp(-1, 1)
            source = task_source(self.task, small, own, config.source, config.mirror)
            joined = (torch.cat([pair[0], source]), torch.cat([pair[1], small]))
            yield Part(*joined, known, full if config.full_size and config.loss.detail else None)

    def known(self, state: State) -> tuple[Tensor, Sequence[int]]:
        """Codes that this process's generated pictures are drawn from, and the seeds of their sources."""
        config, generator = self.config, state.model.generator
        rng = dice(config.seed, state.step)
        drawn = draw(generator, 3 * config.generated, rng, state.model.w_unit)
        w = (drawn - state.model.w_avg[0]) / state.model.w_unit
        codes = mixed_codes(w, state.bank, rng)
        numbers = seeds(config.seed, state.step, config.batch + config.generated)[config.batch :]
        return torch.cat(list(self.share(torch.split(codes, 1)))), self.share(numbers)

    def joined(self, tensors: Sequence[Tensor]) -> None:
        """Average tensors over the processes, in place."""
        if self.accelerator.num_processes == 1:
            return
        for group in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in group])
            flat = cast(Tensor, self.accelerator.reduce(flat, "mean"))
            for tensor, mean in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(mean.view_as(tensor))


def learning_rate(config: TrainConfig, step: int) -> float:
    """Warm-up, then ``lr``, or a cosine from it to a fiftieth of it at ``steps``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    done = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def steps(state: State, teacher: Teacher) -> Iterator[dict[str, Tensor]]:
    """Take steps for ever, each yielding this process's loss and terms, and the gradient's length.

    A step whose gradient is not finite is skipped: weights, statistics and the bank take nothing from it (but in a
    frugal run, where weights with a finite gradient have taken their step by then). Raises TrainingError when
    ``PATIENCE`` steps in a row were.
    """
    config, encoder = teacher.config, state.model.encoder
    parameters = list(encoder.parameters())
    while True:
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step)
        buffers = [(buffer, buffer.clone()) for buffer in encoder.buffers()]
        numbers, codes = look_at_all(state, teacher)
        if isinstance(state.optimizer, StepInBackward):
            norm = state.optimizer.taken()
        else:
            teacher.joined([weight.grad for weight in parameters if weight.grad is not None])
            norm = torch.as_tensor(teacher.accelerator.clip_grad_norm_(parameters, config.clip or math.inf))
        finite = bool(torch.isfinite(norm))
        if finite or teacher.accelerator.scaler is not None:  # a scaler skips by itself, and learns from it
            state.optimizer.step()
        if finite:
            state.bank = cast(Tensor, teacher.accelerator.gather(codes))
            teacher.joined([buffer for buffer, _ in buffers if buffer.is_floating_point()])
            state.skipped_in_a_row = 0
        else:
            for buffer, before in buffers:
                buffer.copy_(before)
            state.skipped, state.skipped_in_a_row = state.skipped + 1, state.skipped_in_a_row + 1
        state.optimizer.zero_grad(set_to_none=True)
        if state.average is not encoder:
            follow(state.average, encoder, min(config.ema, (state.step + 1) / (state.step + 10)))
        state.step += 1
        if state.skipped_in_a_row >= PATIENCE:
            raise TrainingError(
                f"{PATIENCE} steps in a row gave no finite gradient: go on from the last state with a lower --lr in "
                "another --out, set --clip 1, or use --precision fp32"
            )
        yield {**numbers, "gradient": norm}


def look_at_all(state: State, teacher: Teacher) -> tuple[dict[str, Tensor], Tensor]:
    """Look at all parts of a step and leave gradients: mean numbers, and the codes of this process's pictures."""
    found = [look(part, state, teacher) for part in teacher.parts(state)]
    numbers = {name: torch.stack([own[name] for own, _ in found]).mean() for name in found[0][0]}
    return numbers, torch.cat([codes for _, codes in found])


def look(part: Part, state: State, teacher: Teacher) -> tuple[dict[str, Tensor], Tensor]:
    """Encode one part ``iterations`` times: loss and terms of the last (earlier ones by number), and the codes."""
    config, model, precision = teacher.config, state.model, teacher.precision
    with precision():
        target = teacher.objective.target_of(part.targets, part.known)
    seen, ws, drawn = model.fit(part.sources), None, None
    numbers: dict[str, Tensor] = {}
    iterations = 1 if state.step < config.one_iteration_until else config.iterations
    for turn in range(1, iterations + 1):
        with precision():
            ws = model.step(seen, ws, drawn)
            picture = teacher.draw(ws).float()
            away = ws - model.w_avg
            made = Reconstruction(target, away, away / model.w_unit, pooled(model.framed(picture)))
            loss, terms = teacher.objective(made)
            if part.full is not None:
                rng = dice(config.seed, state.step)
                terms["detail"] = detail(picture[-len(part.full) :], part.full, teacher.objective, rng)
                loss = loss + config.loss.detail * terms["detail"]
        if isinstance(state.optimizer, StepInBackward) and not torch.isfinite(loss):
            state.optimizer.refuse()
        else:
            teacher.accelerator.backward(loss / (iterations * config.accumulate))
        ws = ws.detach()
        if turn < iterations:
            drawn = model.framed(area(pooled(picture.detach()), seen.shape[-1]))
        mark = "" if turn == iterations else f"_look{turn}"
        numbers |= {f"{name}{mark}": value.detach() for name, value in {"loss": loss, **terms}.items()}
    pictures = len(part.targets) - (0 if part.known is None else len(part.known))
    return numbers, made.codes.detach()[:pictures].float()


@torch.no_grad()
def follow(average: nn.Module, encoder: nn.Module, decay: float) -> None:
    """Move the averaged weights a little towards the learning ones."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(encoder.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for mean, buffer in zip(average.buffers(), encoder.buffers(), strict=True):
        mean.copy_(buffer)


def _split(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    group: list[Tensor] = []
    for tensor in tensors:
        if group and sum(other.numel() for other in group) + tensor.numel() > BUCKET:
            yield group
            group = []
        group.append(tensor)
    if group:
        yield group
