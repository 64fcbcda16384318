"""Teach an encoder to invert photographs into a frozen generator (pSp, section 3), on any device.

``steps`` is the whole method: it yields the numbers of one step after another and decides nothing. ``fit`` decides when
to log, judge, save and stop. Resuming is running the same command again; the data of a step follow from its number.

    python -m pixel2style.train --data photos/a photos/b --validation photos/v --out runs/faces

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row. This first trainer knows one task, inversion, on one device.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import tyro
from pydantic import TypeAdapter
from torch import Tensor

from . import checkpoints, encoders, mobilefacenet
from .config import ModelConfig, TrainConfig
from .data import SIDE, Photographs, augment, dice, mixed_codes, read_folder, to_float
from .encoders import Encoder
from .errors import ConfigError
from .evaluate import Judges, Scores, pooled
from .losses import Objective, Reconstruction
from .model import PSP, Generator

CONFIG, STATE, LOG, MODEL = "config.json", "state.pt", "log.jsonl", "model.safetensors"
_MAY_CHANGE = {"minutes", "steps", "out", "device", "compile", "save_every", "judge_every", "log_every", "data", "validation"}


@dataclass
class State:
    """All that a run is between two steps. ``bank`` holds the codes of the last photographs, ``[n k d]``."""

    model: PSP
    average: Encoder
    optimizer: torch.optim.Optimizer
    bank: Tensor
    step: int = 0
    best: float = math.inf


def start(config: TrainConfig, device: torch.device) -> State:
    """A fresh state: the encoder from an identity network (as the paper) or from ``start_from``."""
    torch.manual_seed(config.seed)
    if config.start_from:
        model = checkpoints.load(config.start_from)
    else:
        generator = checkpoints.load_generator(config.generator)
        encoder = encoders.build(config.encoder)
        if config.encoder.trunk == "mobilefacenet":
            trunk = cast(mobilefacenet.MobileFaceNet, encoder.trunk)
            trunk.load(mobilefacenet.pretrained(embed=False).state_dict())
        made = ModelConfig(config.encoder, generator.config, feedback=config.encoder.input_channels == 6)
        model = PSP(encoder, generator, made, generator.w_avg, getattr(generator, "w_std", None))
    layout = memory_format(device)
    model.to(device, memory_format=layout)
    model.config = replace(model.config, iterations=max(config.looks, 1))
    model.encoder.train().requires_grad_(True)
    average = encoders.build(model.encoder.config).to(device, memory_format=layout)
    average.load_state_dict(model.encoder.state_dict())
    average.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(model.encoder.parameters(), config.lr, (0.9, 0.99), weight_decay=1e-3)
    bank = torch.zeros(config.photos, *model.w_avg.shape, device=device)
    return State(model, average, optimizer, bank)


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last where it pays: on CPUs. On an H100 cuDNN's depthwise kernels take seconds to build for it."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


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
    """Take steps for ever, each yielding its loss and terms: one batch, ``looks`` looks at it, one update."""
    config, model = teacher.config, state.model
    parameters = list(model.encoder.parameters())
    device = state.bank.device
    precision = torch.autocast(device.type, torch.bfloat16) if config.bf16 else contextlib.nullcontext()
    while True:
        rng = dice(config.seed, state.step)
        with precision:
            images, codes, full = teacher.batch(state, rng)
            target = teacher.objective.look_at(images, codes)
        ws, drawn, numbers = None, None, {}
        looks = 1 if state.step < config.one_look_until else config.looks
        for look in range(looks):
            with precision:
                ws = model.step(images, ws, drawn)
                picture = teacher.draw(ws).float()
                made = Reconstruction(target, (ws - model.w_avg) / model.w_unit, pooled(picture))
                loss, terms = teacher.objective(made)
                if full is not None:
                    terms["detail"] = detail(picture[-len(full) :], full, teacher.objective, rng)
                    loss = loss + config.loss.detail * terms["detail"]
            (loss / looks).backward()
            ws, drawn = ws.detach(), made.images.detach()
            numbers |= {f"{name}_{look + 1}": value.detach() for name, value in terms.items()}
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        if torch.isfinite(norm):
            state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        follow(state.average, model.encoder, min(config.ema, (state.step + 1) / (state.step + 10)))
        state.bank = made.codes[: config.photos].detach()
        state.step += 1
        yield {"loss": loss.detach(), "gradient": norm, **numbers}


def detail(drawn: Tensor, full: Tensor, objective: Objective, rng: torch.Generator) -> Tensor:
    """LPIPS of one 256-pixel window of full-size pictures: what pooling to 256 pixels hides."""
    if objective.lpips is None:
        return drawn.new_zeros(())
    top, left = (int(torch.randint(full.shape[-1] - SIDE + 1, (), generator=rng)) for _ in range(2))
    window = (..., slice(top, top + SIDE), slice(left, left + SIDE))
    return objective.lpips(drawn[window], full[window]).mean()


@torch.no_grad()
def follow(average: Encoder, encoder: Encoder, decay: float) -> None:
    """Move the averaged weights a little towards the learning ones."""
    ours, theirs = list(average.parameters()), list(encoder.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for mean, buffer in zip(average.buffers(), encoder.buffers(), strict=True):
        mean.copy_(buffer)


def averaged(state: State) -> PSP:
    """The model with the averaged encoder."""
    model = state.model
    return PSP(state.average, model.generator, model.config, model.w_avg, model.w_unit).to(state.bank.device)


@torch.inference_mode()
def judge(state: State, judges: Judges, photos: Tensor, full_size: bool) -> dict[str, float]:
    """Mean scores of the averaged encoder on photographs (bytes ``[n 3 256 256]``), deterministic."""
    model, found = averaged(state), []
    for pixels in photos.split(20):
        targets = to_float(pixels.to(state.bank.device))
        found.append(judges(model.decode(model.encode(targets), None if full_size else SIDE), targets))
    return Scores.joined(found).means()


def save(state: State, out: Path) -> None:
    """Write the run's state and its model; each is whole or not there."""
    content = {
        "encoder": state.model.encoder.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "bank": state.bank,
        "step": state.step,
        "best": state.best,
    }
    temporary = out / f"{STATE}.part"
    torch.save(content, temporary)
    temporary.replace(out / STATE)


def resume(state: State, out: Path) -> None:
    """Take up a saved state, if there is one."""
    if not (out / STATE).exists():
        return
    content: dict[str, Any] = torch.load(out / STATE, map_location=state.bank.device, weights_only=True)
    state.model.encoder.load_state_dict(content["encoder"])
    state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.bank, state.step, state.best = content["bank"], content["step"], content["best"]


def remember(config: TrainConfig, out: Path) -> None:
    """Write the configuration, or refuse to go on with another one."""
    out.mkdir(parents=True, exist_ok=True)
    adapter, file = TypeAdapter(TrainConfig), out / CONFIG
    if file.exists():
        before, now = json.loads(file.read_text()), json.loads(adapter.dump_json(config))
        if changed := sorted(key for key in now if key not in _MAY_CHANGE and now[key] != before.get(key)):
            raise ConfigError(f"{out} holds a run with another {', '.join(changed)}: choose another --out")
    file.write_bytes(adapter.dump_json(config, indent=2))


def fit(config: TrainConfig) -> State:
    """Run, or take up again, the run that ``config`` describes."""
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
    out = Path(config.out)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    remember(config, out)
    state = start(config, device)
    resume(state, out)
    objective = Objective(config.loss).to(device, memory_format=memory_format(device))
    photographs = Photographs(config.data, device)
    validation = torch.cat([read_folder(folder) for folder in config.validation]) if config.validation else None
    judges = Judges(device)
    generator, size = cast(Generator, state.model.generator), None if config.full_size else SIDE

    def draw(ws: Tensor) -> Tensor:
        return generator.synthesize(ws, size)

    if config.compile:
        draw = torch.compile(draw, dynamic=False)
        state.model.encoder.compile(dynamic=False)
    teacher = Teacher(config, objective, photographs, draw)

    def log(entry: dict[str, Any]) -> None:
        with (out / LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(" ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()), flush=True)

    def look_back() -> None:
        if validation is None:
            return
        found = judge(state, judges, validation, config.full_size)
        state.best = min(state.best, found["l2"] + 0.8 * found["lpips"])
        log({"step": state.step, "judged": True, **{name: round(value, 4) for name, value in found.items()}})

    def finish() -> None:
        save(state, out)
        checkpoints.save(averaged(state), out / MODEL, generator=config.generator)

    begun = last = time.monotonic()
    log({"step": state.step, "photographs": len(photographs), "device": str(device)})
    for numbers in steps(state, teacher):
        if state.step % config.log_every == 0:
            now = time.monotonic()
            speed = config.log_every * (config.photos + config.generated) / (now - last)
            log(
                {"step": state.step, "s": round(now - begun), "speed": round(speed, 1)}
                | {k: round(float(v), 4) for k, v in numbers.items()}
            )
            last = now
        over = state.step >= config.steps or (config.minutes and time.monotonic() - begun > 60 * config.minutes)
        if over or state.step % config.judge_every == 0:
            look_back()
        if over or state.step % config.save_every == 0:
            finish()
        if over:
            return state
    raise AssertionError("steps never end")


if __name__ == "__main__":
    fit(tyro.cli(TrainConfig))
