"""Train a detail encoder (``models.detail``): residuals on two maps of a model's frozen generator, from a photograph.

    python tools/train_detail.py --out runs/detail --start-from detail_ffhq --cache \\
        --data celebahq_train.tar ffhq_train.tar --validation celebahq_val.tar ffhq_val.tar

The same command again resumes the run. All that a step sees follows from the seed and the step's number, so a resumed
run equals an unbroken one. Results in ``--out``: ``detail.safetensors`` (moving average of the weights, for
``tools/bundle_detail.py``), ``log.jsonl``, ``state.pt`` and with ``--cache`` what was computed of photographs.

With a ``--model`` whose task degrades photographs (``superres``, ``inpaint``) the network sees what the task makes of
the degraded ones, and the photograph is the target.

Data: folders or tars of aligned photographs, each sampled in proportion to the square root of its size. Variants of a
photograph are itself, its mirror image, then augmented ones. Rows are the encoder's; every fourth photograph has rows
after a Newton step in all variants but the first, so the network knows both kinds. On a CPU, encoding costs as much as
the rest of a step: ``--cache`` keeps rows and their pictures on disk.

Loss: L2 + .8 LPIPS + .1 identity at 256 pixels, which the generator's small head draws, and the mean square of each
residual in units of its map's deviation. In the last ``--full-share`` of the steps the picture is drawn at full size,
and some pictures are generated, so that their full-size pixels are known. Two terms are added: LPIPS and L2 of three
full-size windows of generated pictures, and a penalty for photographs' pictures that are rougher than what their rows
alone draw, there or in a neighbouring cell. It is one-sided: photographs of 256 pixels do not say how rough skin is.

Optimisers: Muon for hidden convolutions, AdamW for the rest; a linear warm-up, and a linear decay at the end.

Axes: ``b`` pictures of a batch, ``p`` photographs and ``g`` generated ones of them, ``k`` rows, ``d`` width of a row,
``s`` side of the coarse map, ``r`` side of a full-size picture.
"""

import copy
import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import tyro
from pydantic import TypeAdapter
from torch import Tensor, nn

from detail_samples import Batch, SampleOptions, Samples, excess, read_pixels, roughness, to_images, windows
from muon import Muon
from pixel2style import assets, checkpoints, files, runtime
from pixel2style.config import DetailConfig
from pixel2style.errors import CheckpointError, ConfigError, Pixel2StyleError
from pixel2style.formats import quantized, safetensors
from pixel2style.generators import sampling
from pixel2style.images import resize
from pixel2style.inference.optimize import newton
from pixel2style.metrics.losses import Objective, Reconstruction
from pixel2style.metrics.scores import Scorer, Scores
from pixel2style.models.detail import DetailEncoder
from pixel2style.models.psp import PSP
from pixel2style.ops import pooled
from pixel2style.training.dataset import step_rng


@dataclass(frozen=True)
class DetailRun:
    """Options of the run. The same command again resumes it."""

    samples: SampleOptions
    validation: tuple[Path, ...] = ()
    """Folders or tars of aligned photographs."""
    out: Path = Path("runs/detail")
    model: str = "faces"
    """Bundled name or file of the model whose encoder and generator are used."""
    start_from: str | None = None
    """Bundled name or file of a detail encoder."""
    device: runtime.Device = "auto"
    bf16: bool = True
    """Compute in bfloat16; slow on processors without instructions for it."""
    steps: int = 4000
    """0: validate only."""
    minutes: float = 0
    """End after this time, 0: never; the same command then continues."""
    full_share: float = 0.3
    """Share of the steps, at the end, with losses at full size."""
    side: int = 32
    """Side of the coarse map, for a new network, as the four below."""
    width: int = 192
    units: int = 6
    fine_width: int = 96
    fine_units: int = 2
    lr: float = 1e-3
    """AdamW's learning rate."""
    muon: float = 1.5e-3
    """Muon's learning rate."""
    warmup: int = 50
    decay_share: float = 0.3
    """Share of the steps, at the end, over which rates fall to ``final`` of themselves."""
    final: float = 0.03
    ema: float = 0.995
    penalty: float = 0.002
    """Weight of the residuals' mean square."""
    window: float = 0.3
    """Weight of full-size windows."""
    rough: float = 0.01
    """Weight of the penalty for roughness."""
    log_every: int = 25
    save_minutes: float = 3
    validate_every: int = 300
    validated: int = 24
    """Validation photographs."""


def new_detail(run: DetailRun, model: PSP) -> DetailEncoder:
    """An untrained network, with the deviations of the maps of 64 of the generator's own pictures."""
    generator, channels = model.generator, model.generator.map_channels()
    sides = (run.side, 2 * run.side)
    if any(side not in channels for side in sides):
        raise ConfigError(f"--side {run.side}: the generator has maps of {', '.join(map(str, channels))} pixels")
    config = DetailConfig(
        side=run.side,
        channels=(channels[sides[0]], channels[sides[1]]),
        width=run.width,
        units=run.units,
        fine_width=run.fine_width,
        fine_units=run.fine_units,
    )
    torch.manual_seed(run.samples.seed)
    detail = DetailEncoder(config)
    with torch.no_grad():
        w = sampling.draw(generator, 64, step_rng(run.samples.seed, 0), model.w_unit, truncation=0.8)
        ws = w[:, None].expand(-1, generator.rows, -1)
        coarse, fine = (
            torch.cat([generator.features(some, side) for some in torch.split(ws, 4)]).float() for side in sides
        )
    detail.coarse_mean = coarse.mean((0, 2, 3))
    detail.coarse_std, detail.fine_std = (maps.std((0, 2, 3)).clamp(min=1e-3) for maps in (coarse, fine))
    return detail


def load_detail(source: str) -> DetailEncoder:
    """The detail encoder of a bundled name or a file. Raises CheckpointError where there is none."""
    file = assets.path(source) if source in assets.names() else Path(source)
    config = safetensors.read_metadata(file).get("detail_config")
    if config is None:
        raise CheckpointError(f"{file}: holds no detail encoder; name a file of tools/train_detail.py")
    detail = DetailEncoder(TypeAdapter(DetailConfig).validate_json(config))
    state = quantized.complete(safetensors.read(file), str(file))
    detail.load_state_dict({key: value.float() for key, value in state.items()})
    return detail


def metadata_of(detail: DetailEncoder) -> dict[str, str]:
    """The metadata of a file that ``load_detail`` reads."""
    return {"detail_config": json.dumps(asdict(detail.config))}


class State:
    """What changes during a run: the network, its moving average and the optimisers, after ``step`` steps."""

    def __init__(self, run: DetailRun, model: PSP):
        detail = load_detail(run.start_from) if run.start_from else new_detail(run, model)
        if not detail.config.fits(model.generator.map_channels()):
            raise ConfigError(f"{run.start_from} is for other maps than those of {run.model}'s generator")
        self.file, self.weights = run.out / "state.pt", run.out / "detail.safetensors"
        self.detail = detail.to(model.w_avg.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.detail).eval().requires_grad_(False)
        convolutions = {f"{name}.weight" for name, layer in detail.named_modules() if isinstance(layer, nn.Conv2d)}
        hidden = convolutions - {"stem.weight", "coarse.weight", "fine.weight"}
        named = dict(self.detail.named_parameters())
        rest = [weight for name, weight in named.items() if name not in hidden]
        self.rates = (run.lr, run.muon)
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(rest, run.lr, (0.9, 0.99), weight_decay=0.0),
            Muon([named[name] for name in sorted(hidden)], run.muon),
        )
        self.step = self.photographs = 0
        if self.file.exists():
            self._load()

    def _load(self) -> None:
        found = torch.load(self.file, map_location=self.detail.coarse_std.device, weights_only=True)
        self.detail.load_state_dict(found["detail"])
        self.average.load_state_dict(found["average"])
        for optimizer, content in zip(self.optimizers, found["optimizers"], strict=True):
            optimizer.load_state_dict(content)
        self.step, self.photographs = found["step"], found["photographs"]

    def save(self) -> None:
        """Write the state, and the average for use."""
        content: dict[str, Any] = {"detail": self.detail.state_dict(), "average": self.average.state_dict()}
        content |= {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}
        with files.replacing(self.file) as part:
            torch.save(content | {"step": self.step, "photographs": self.photographs}, part)
        metadata = metadata_of(self.average) | {"step": str(self.step), "photographs": str(self.photographs)}
        safetensors.write(self.average.state_dict(), self.weights, metadata)

    def update(self, run: DetailRun) -> None:
        """A step of the optimisers with the gradients of the network, and of the average."""
        nn.utils.clip_grad_norm_(self.detail.parameters(), 1.0)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * schedule(run, self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(run.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, weight in zip(self.average.parameters(), self.detail.parameters(), strict=True):
                average.lerp_(weight, 1 - decay)


def schedule(run: DetailRun, step: int) -> float:
    """The factor of the learning rates: a linear warm-up, 1, and a linear decay to ``final`` at the end."""
    left = (run.steps - step) / max(1, run.decay_share * run.steps)
    return min(1.0, (step + 1) / run.warmup) * (run.final + (1 - run.final) * min(1.0, left))


def loss_of(
    detail: DetailEncoder, batch: Batch, model: PSP, objective: Objective, run: DetailRun, rng: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its unweighted terms."""
    generator, side = model.generator, detail.config.side
    features = generator.features(batch.ws, side)
    inputs = (resize(images, detail.input_size) for images in (batch.shown, batch.drawn))
    residuals = detail(*inputs, features)
    full = batch.rough is not None
    made = generator.synthesize(batch.ws, None if full else model.compare_size, residuals=residuals).float()
    target, none = objective.target_of(batch.images), batch.ws[:0]
    total, terms = objective(Reconstruction(target, none, none, pooled(made)))
    for at, residual in residuals.items():
        unit = detail.coarse_std if at == side else detail.fine_std
        terms[f"size{at}"] = (residual.float() / unit[:, None, None]).square().mean()
        total = total + run.penalty * terms[f"size{at}"]
    if batch.rough is not None:
        terms["rough"] = excess(made[: len(batch.rough)], batch.rough)
        total = total + run.rough * terms["rough"]
    if batch.full is not None and objective.lpips is not None:
        here, wanted = windows([made[-len(batch.full) :], batch.full], rng)
        terms["window_l2"] = (here - wanted).square().mean()
        terms["window"] = objective.lpips(here, wanted).mean()
        total = total + run.window * (terms["window_l2"] + terms["window"])
    return total, {name: term.detach() for name, term in terms.items()}


class Validation:
    """Scores of full-size pictures of evenly spaced validation photographs, and of those of their rows alone."""

    def __init__(self, run: DetailRun, samples: Samples):
        each = run.validated // max(1, len(run.validation))
        pixels = [read_pixels(source, each) for source in run.validation]
        self.images = [to_images(one)[None].to(samples.device) for folder in pixels for one in folder]
        self.model = samples.model
        self.samples = samples

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.model.w_avg.device, full=True)

    @cached_property
    def _rows(self) -> dict[str, float]:
        return self._scores(None)

    @torch.no_grad()
    def _scores(self, detail: DetailEncoder | None) -> dict[str, float]:
        model, size = self.model, self.samples.input_size
        scores, high = [], []
        for place, image in enumerate(self.images):
            found = self.samples.encoded(image, [step_rng(0, place)])
            residuals = {}
            if detail is not None:
                shown, drawn = (resize(found[name], size) for name in ("shown", "drawn"))
                residuals = detail(shown, drawn, model.generator.features(found["ws"], detail.config.side))
            made = model.decode(found["ws"], features=residuals).clamp(-1, 1)
            scores.append(self._scorer(made, image))
            high.append(float(roughness(made).mean()))
        return Scores.joined(scores).means() | {"high": sum(high) / len(high)}

    def __call__(self, average: DetailEncoder) -> dict[str, Any]:
        """Means by name; ``high`` is the energy above a 9-pixel mean, ``rows`` the same scores of the rows alone."""
        scores = {"validated": len(self.images)} | self._scores(average)
        return scores | {"rows": {name: round(value, 5) for name, value in self._rows.items()}}


class Log:
    """``log.jsonl``, a JSON object for each line; a resumed run first removes the lines after its state."""

    def __init__(self, file: Path, step: int):
        self.file = file
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # the last one may be truncated
        files.write_text(file, "".join(line for line in whole if json.loads(line)["step"] <= step))

    def write(self, state: State, values: dict[str, Any]) -> None:
        """Append a line and print it."""
        rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in values.items()}
        line = json.dumps({"step": state.step, "photographs": state.photographs, **rounded})
        with self.file.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


def train(run: DetailRun) -> None:
    """The run from its saved state, or from the start, to its last step. Raises ConfigError, CheckpointError."""
    device = runtime.choose_device(run.device)
    files.make_folder(run.out)
    model = checkpoints.load(run.model).to(device).eval().requires_grad_(False)
    model.detail = None
    objective = Objective(newton.LOSS).to(device)
    state = State(run, model)
    samples = Samples(run.samples, model, objective, state.detail.input_size, run.bf16, run.out / "cache")
    validation, log = Validation(run, samples), Log(run.out / "log.jsonl", state.step)
    begun = saved = logged = time.monotonic()
    recent: list[dict[str, Tensor]] = []
    if validation.images and not run.steps:
        log.write(state, validation(state.average))
    while state.step < run.steps:
        rng = step_rng(run.samples.seed, state.step)
        batch = samples.batch(rng, full=state.step >= (1 - run.full_share) * run.steps)
        with torch.autocast(device.type, torch.bfloat16, enabled=run.bf16):
            loss, terms = loss_of(state.detail, batch, model, objective, run, rng)
        torch.autograd.backward(loss)
        rate = schedule(run, state.step)
        state.update(run)
        state.photographs += len(batch.images)
        recent.append({"loss": loss.detach(), **terms})
        if state.step % run.log_every == 0:
            means = {name: float(torch.stack([t[name] for t in recent if name in t]).mean()) for name in recent[-1]}
            seconds = (time.monotonic() - logged) / len(recent)
            log.write(state, {"seconds_a_step": seconds, "rate": rate, **means})
            recent, logged = [], time.monotonic()
        if time.monotonic() - saved > 60 * run.save_minutes:
            state.save()
            saved = time.monotonic()
        if validation.images and (state.step % run.validate_every == 0 or state.step == run.steps):
            log.write(state, validation(state.average))
            recent, logged = [], time.monotonic()
        if 0 < 60 * run.minutes < time.monotonic() - begun:
            break
    state.save()


if __name__ == "__main__":
    runtime.keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    options = tyro.cli(DetailRun, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    try:
        train(options)
    except Pixel2StyleError as error:
        sys.exit(str(error))
