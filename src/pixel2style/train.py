"""Teach an encoder to invert photographs into a frozen generator (pSp, section 3), on any device.

``steps`` is the whole method: it yields the numbers of one step after another and decides nothing. ``fit`` decides when
to log, judge, save and stop. Resuming is running the same command again; the data of a step follow from its number.

    python -m pixel2style.train --data photos/a photos/b --validation photos/v --out runs/faces

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row. This first trainer knows one task, inversion, on one device.
"""

import contextlib
import copy
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from . import checkpoints, encoders, mobilefacenet, terminal
from .config import ModelConfig, TrainConfig
from .data import SIDE, Photographs, augment, dice, mixed_codes, read_folder, to_float
from .encoders import Encoder
from .errors import ConfigError
from .evaluate import Judges, Scores, pooled
from .losses import Objective, Reconstruction, detail
from .model import PSP, Generator
from .pipeline import choose_device
from .runs import RunFolder

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class State:
    """All that a run is between two steps. ``bank`` holds the codes of the last photographs, ``[n k d]``."""

    model: PSP
    average: Encoder
    optimizer: torch.optim.Optimizer
    bank: Tensor
    step: int = 0


def start(config: TrainConfig, device: torch.device) -> State:
    """A fresh state: ``start_from``, or a new encoder on the trunk of an identity network where one is bundled.

    Raises ConfigError for settings that cannot work together.
    """
    torch.manual_seed(config.seed)
    model = checkpoints.load(config.start_from) if config.start_from else newborn(config)
    if model.source_channels != 3:
        raise ConfigError(f"the encoder reads {model.source_channels} channels, photographs have 3: choose another")
    if config.looks > 1 and not model.corrects_itself:
        raise ConfigError("only an encoder of 6 input channels sees what it drew: leave out --looks")
    model = laid_out(model, device)
    model.config = replace(model.config, iterations=max(config.looks, model.config.iterations))
    model.encoder.train().requires_grad_(True)
    average = copy.deepcopy(model.encoder).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(model.encoder.parameters(), config.lr, (0.9, 0.99), weight_decay=1e-3)
    bank = torch.zeros(config.photos, *model.w_avg.shape, device=device)
    return State(model, average, optimizer, bank)


def newborn(config: TrainConfig) -> PSP:
    """A model before its first lesson."""
    generator = checkpoints.load_generator(config.generator)
    made = ModelConfig(config.encoder, generator.config, feedback=config.encoder.input_channels == 6)
    try:
        encoder = encoders.build(config.encoder)
        model = PSP(encoder, generator, made, generator.w_avg, getattr(generator, "w_std", None))
    except ValueError as error:
        raise ConfigError(f"{error}: change --encoder") from error
    if isinstance(encoder.trunk, mobilefacenet.MobileFaceNet):
        encoder.trunk.load(mobilefacenet.pretrained(embed=False).state_dict())
    return model


def laid_out(module: Network, device: torch.device) -> Network:
    """Move a network; channels last where it pays: on CPUs. On an H100 cuDNN's kernels take seconds to build for it."""
    return module.to(device).to(memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Warm-up, then a cosine from ``lr`` to a fiftieth of it at ``steps``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass
class Teacher:
    """What stays the same during a run: the configuration, the judges, the photographs and how rows are drawn."""

    config: TrainConfig
    objective: Objective
    photographs: Photographs
    draw: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def batch(self, state: State, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pictures at 256 pixels, the known codes of the last of them, and these at full size where wanted."""
        device = state.bank.device
        photos = self.photographs.draw(self.config.photos, rng)
        if self.config.augment:
            photos = augment(photos, rng)
        if not self.config.generated:
            return photos, state.bank[:0], None
        generator = cast(Generator, state.model.generator)
        w = generator.map(torch.randn(3 * self.config.generated, generator.width, generator=rng).to(device))
        codes = mixed_codes((w - state.model.w_avg[0]) / state.model.w_unit, state.bank, rng)
        full = self.draw(codes * state.model.w_unit + state.model.w_avg).float()
        images = torch.cat([photos, pooled(full).clamp(-1, 1)])
        return images, codes, full if self.config.full_size else None


def steps(state: State, teacher: Teacher) -> Iterator[dict[str, Tensor]]:
    """Take steps for ever, each yielding its loss and terms: one batch, ``looks`` looks at it, one update.

    A step whose gradient is not finite is skipped: weights, statistics and the bank take nothing from it.
    """
    config, model = teacher.config, state.model
    parameters = list(model.encoder.parameters())
    while True:
        rng = dice(config.seed, state.step)
        buffers = [(buffer, buffer.clone()) for buffer in model.encoder.buffers()]
        numbers, codes = look(state, teacher, rng)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        if torch.isfinite(norm):
            state.optimizer.step()
            state.bank = codes[: config.photos]
        else:
            for buffer, before in buffers:
                buffer.copy_(before)
        state.optimizer.zero_grad(set_to_none=True)
        follow(state.average, model.encoder, min(config.ema, (state.step + 1) / (state.step + 10)))
        state.step += 1
        yield {**numbers, "gradient": norm}


def look(state: State, teacher: Teacher, rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Look at one batch, ``looks`` times, and leave gradients: the last loss, every look's terms, and the codes."""
    config, model = teacher.config, state.model
    precision = torch.autocast(state.bank.device.type, torch.bfloat16) if config.bf16 else contextlib.nullcontext()
    with precision:
        images, known, full = teacher.batch(state, rng)
        target = teacher.objective.look_at(images, known)
    seen, ws, drawn = model.fit(images), None, None
    numbers: dict[str, Tensor] = {}
    looks = 1 if state.step < config.one_look_until else config.looks
    for turn in range(1, looks + 1):
        with precision:
            ws = model.step(seen, ws, drawn)
            picture = teacher.draw(ws).float()
            made = Reconstruction(target, (ws - model.w_avg) / model.w_unit, pooled(picture))
            loss, terms = teacher.objective(made)
            if full is not None:
                terms["detail"] = detail(picture[-len(full) :], full, teacher.objective, rng)
                loss = loss + config.loss.detail * terms["detail"]
        (loss / looks).backward()
        ws, drawn = ws.detach(), F.adaptive_avg_pool2d(made.images.detach(), seen.shape[-1])
        numbers |= {"loss": loss.detach()} | {f"{name}_{turn}": value.detach() for name, value in terms.items()}
    return numbers, made.codes.detach()


@torch.no_grad()
def follow(average: Encoder, encoder: Encoder, decay: float) -> None:
    """Move the averaged weights a little towards the learning ones."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(encoder.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for mean, buffer in zip(average.buffers(), encoder.buffers(), strict=True):
        mean.copy_(buffer)


def averaged(state: State) -> PSP:
    """The model with the averaged encoder."""
    model = state.model
    return PSP(state.average, model.generator, model.config, model.w_avg, model.w_unit).to(state.bank.device)


@torch.inference_mode()
def judge(state: State, judges: Judges, photos: Tensor, size: int | None) -> dict[str, float]:
    """Mean scores of the averaged encoder on photographs (bytes ``[n 3 256 256]``), deterministic."""
    model, found = averaged(state), []
    for pixels in torch.split(photos, 20):
        targets = to_float(pixels.to(state.bank.device))
        found.append(judges(model.decode(model.encode(targets), size), targets))
    return Scores.joined(found).means()


def save(state: State, folder: RunFolder, generator: str | None) -> None:
    """Write the run's model (the averaged encoder), then its state: a run cut off in between does both again."""
    checkpoints.save(averaged(state), folder.model, generator=generator)
    folder.keep(
        {
            "encoder": state.model.encoder.state_dict(),
            "average": state.average.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "bank": state.bank,
            "step": state.step,
        }
    )


def resume(state: State, folder: RunFolder) -> None:
    """Take up the folder's last state, if there is one."""
    content = folder.kept()
    if content is None:
        return
    state.model.encoder.load_state_dict(content["encoder"])
    state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.bank = content["bank"].to(state.bank.device)
    state.step = content["step"]


def drawing_size(config: TrainConfig, generator: Generator) -> int | None:
    """The side at which pictures are drawn: 256 pixels, or all that the generator has."""
    return None if config.full_size else min(SIDE, generator.size)


def appoint(config: TrainConfig, state: State, photographs: Photographs) -> Teacher:
    """The teacher of a run, on the state's device."""
    generator = cast(Generator, state.model.generator)
    size = drawing_size(config, generator)

    def draw(ws: Tensor) -> Tensor:
        return generator.synthesize(ws, size)

    if config.compile:
        draw = torch.compile(draw, dynamic=False)
        state.model.encoder.compile(dynamic=False)
    return Teacher(config, laid_out(Objective(config.loss), state.bank.device), photographs, draw)


def fit(config: TrainConfig) -> State:
    """Run, or take up again, the run that ``config`` describes. A finished one takes no step.

    Raises ConfigError for a folder without pictures, a device that is not there, or another configuration than the one
    that ``out`` holds; CheckpointError for models and states that cannot be read; OutputError when ``out`` cannot be
    written.
    """
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    photographs = Photographs(config.data, device)
    validation = torch.cat([read_folder(folder) for folder in config.validation]) if config.validation else None
    folder = RunFolder(config.out)
    folder.remember(config)
    state = start(config, device)
    resume(state, folder)
    named = checkpoints.bundled_generator(config.start_from or config.generator)
    teacher, judges = appoint(config, state, photographs), Judges(device)
    size = drawing_size(config, cast(Generator, state.model.generator))
    begun = last = time.monotonic()
    folder.log({"step": state.step, "photographs": len(photographs), "device": str(device)})
    over = state.step >= config.steps
    learning = steps(state, teacher)
    while not over:
        numbers = next(learning)
        now = time.monotonic()
        over = state.step >= config.steps or (config.minutes > 0 and now - begun > 60 * config.minutes)
        if state.step % config.log_every == 0:
            speed = config.log_every * (config.photos + config.generated) / (now - last)
            measured = {name: round(float(value), 4) for name, value in numbers.items()}
            folder.log({"step": state.step, "s": round(now - begun), "speed": round(speed, 1), **measured})
            last = now
        if validation is not None and (over or state.step % config.judge_every == 0):
            found = judge(state, judges, validation, size)
            folder.log({"step": state.step, "judged": True, **{k: round(v, 4) for k, v in found.items()}})
        if over or state.step % config.save_every == 0:
            save(state, folder, named)
    return state


def main() -> int:
    """Train as the command line says; 2 and one sentence on stderr when the user's input was at fault."""

    def run() -> int:
        fit(terminal.parsed(lambda: tyro.cli(TrainConfig, prog="python -m pixel2style.train")))
        return 0

    return terminal.exit_code(run, "stopped; the same command goes on from the last state that was saved")


if __name__ == "__main__":
    sys.exit(main())
