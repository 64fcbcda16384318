"""Seconds and memory of a training step of the paper's size on a CPU, from a naive loop to the trainer, change by
change.

    python benchmarks/training.py --threads 2

The step is inversion as published: IR-SE50 with a head for each of 14 rows, StyleGAN2 of 256 pixels, two pictures, L2,
LPIPS (alex) and ArcFace identity, Ranger. Weights are random; the speed is that of others. "naive" does what the
published loop does: generator and ArcFace compute unused weight gradients, features of targets are computed with a
graph, once as input and once as target, every sample has convolution weights of its own in the generator, everything is
float32 and contiguous. Each row keeps the changes of the rows above it.

Every row is a process of its own, and some have a second one without the optimiser. Seconds are the median over steps
after two warm-up steps; gigabytes (10^9) are the peak resident size that the kernel reports, Python, PyTorch and
weights included. Other work on the machine falsifies seconds: check `uptime`, or use `chrt --fifo 1`. The rows named
"trainer" run ``training_loop``, which also reads pictures (of ``examples/astronaut.png``), checks gradients and
restores statistics where they are not finite.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from pytorch_optimizer import Ranger
from torch import Tensor, nn

from modulated_conv import grouped
from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.generators.stylegan2 import network
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.metrics.identity import Identity
from pixel2style.metrics.losses import Objective
from pixel2style.metrics.lpips import LPIPS
from pixel2style.models import encoders
from pixel2style.models.backbones.ir_se import ArcFace, Unit
from pixel2style.models.psp import PSP
from pixel2style.ops import ModulatedConv2d
from pixel2style.tasks import find_task, presets
from pixel2style.training import memory, setup
from pixel2style.training.batches import ReadAhead
from pixel2style.training.distributed import make_accelerator
from pixel2style.training.loop import training_loop
from pixel2style.training.monitor import Monitor
from pixel2style.training.state import State, TrainContext
from pixel2style.training.steps.encoder import EncoderStep

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"
BATCH, SIZE, ROWS, LR = 2, 256, 14, 1e-4
STAGES = {
    "naive": "naive",
    "frozen": "generator and ArcFace are frozen",
    "targets": "features of targets: once, without a graph",
    "layers": "styles scale features, not weights; shortcuts are views",
    "layout": "channels last",
    "bf16": "bfloat16 (autocast)",
    "recast": "16-bit copies of weights are not kept",
    "trainer": "trainer: `training_loop`",
    "frugal": "trainer `--frugal`: steps in the backward pass",
    "again": "trainer `--frugal --checkpointing`: and the trunk's maps are computed twice",
}
"""Each row and what it changes; it keeps the changes of the rows above."""
ALSO_WITHOUT = ("naive", "bf16", "recast", "trainer")
"""Rows that are also measured without the optimiser."""


def reached(stage: str, other: str) -> bool:
    return list(STAGES).index(stage) >= list(STAGES).index(other)


def ranger(parameters: list[nn.Parameter]) -> Ranger:
    return Ranger(parameters, LR, betas=(0.95, 0.999), eps=1e-5, foreach=False)


def networks(stage: str) -> tuple[PSP, LPIPS, Identity]:
    """The model and its loss networks, as the stage has them."""
    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=SIZE))
    config = ModelConfig(EncoderConfig(rows=ROWS), generator.config)
    model = PSP(encoders.build(config.encoder), generator, config, generator.w_avg)
    lpips, identity = LPIPS("alex"), Identity("arcface", ArcFace())
    model.encoder.train()
    if not reached(stage, "frozen"):
        generator.requires_grad_(True)
        identity.network.requires_grad_(True)
    if not reached(stage, "layers"):
        ModulatedConv2d.undemodulated = grouped  # type: ignore[method-assign]
        for unit in model.encoder.modules():
            if isinstance(unit, Unit) and not isinstance(unit.shortcut_layer, nn.Sequential):
                unit.shortcut_layer = nn.MaxPool2d(1, unit.shortcut_layer.stride)
    if reached(stage, "layout"):
        for module in (model, lpips, identity):
            module.to(memory_format=torch.channels_last)
    else:
        network.LAYOUT = torch.contiguous_format
    return model, lpips, identity


def loop(stage: str, learn: bool) -> Iterator[None]:
    """Steps of the loop in this file, endless."""
    model, lpips, identity = networks(stage)
    optimizer = ranger(list(model.encoder.parameters())) if learn else None
    targets = pictures_of(BATCH)
    half, thrifty = reached(stage, "bf16"), reached(stage, "recast")
    while True:
        numbers = torch.autocast("cpu", torch.bfloat16, half, not thrifty)
        with numbers, memory.recast() if thrifty else nullcontext():
            known = None
            if reached(stage, "targets"):
                with torch.no_grad():
                    known = lpips.features(targets), identity.features(targets)
            drawn = model.decode(model.encode(targets)).float()
            if known is not None:
                lpips_loss = lpips.distance(lpips.features(drawn), known[0]).mean()
                cosine = identity.similarity(identity.features(drawn), known[1])
            else:
                lpips_loss = lpips(drawn, targets).mean()
                source, target = identity.features(targets), identity.features(targets).detach()
                cosine = identity.similarity(identity.features(drawn), target)
                (cosine - identity.similarity(target, source)).mean().item()
                del source, target
            loss = (drawn - targets).square().mean() + 0.8 * lpips_loss + 0.1 * (1 - cosine.mean())
        loss.backward()
        if optimizer is None:
            model.encoder.zero_grad()
        else:
            optimizer.step()
            optimizer.zero_grad()
        loss.item()
        del drawn, known, lpips_loss, cosine, loss
        yield


def trainer(stage: str, learn: bool, folder: Path) -> Iterator[None]:
    """The package's own steps on files in ``folder``, endless."""
    for index, picture in enumerate(pictures_of(4)):
        pixels = ((picture + 1) * 127.5).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    config = presets.PRESETS["invert"].config
    config = replace(config, data=(str(folder),), out=str(folder), batch=BATCH, device="cpu")
    accelerator = make_accelerator(config)
    model, _, identity = networks(stage)
    encoder = model.encoder
    encoder.recompute = stage == "again"
    objective = setup.to_device(Objective(config.loss, identity=identity.network), torch.device("cpu"))
    optimizer: torch.optim.Optimizer | memory.StepInBackward
    if not learn:
        optimizer = torch.optim.SGD(encoder.parameters(), 0.0)
        optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
    else:
        optimizer = setup.make_optimizer(encoder, replace(config, frugal=reached(stage, "frugal")), accelerator)
    bank = torch.zeros(BATCH, ROWS, model.w_avg.shape[-1])
    state = State(model, encoder, optimizer, bank)  # type: ignore[arg-type]
    pictures = setup.training_pictures(config, model)

    def draw(ws: Tensor) -> Tensor:
        return model.decode(ws, SIZE)

    batches = ReadAhead(pictures, config, accelerator)
    task = find_task(config.task)
    context = TrainContext(config, task, objective, pictures, batches, draw, accelerator, EncoderStep())
    while True:
        one_more = replace(context, config=replace(config, steps=state.step + 1))
        training_loop(state, one_more, Monitor(state, one_more))
        yield


def pictures_of(count: int) -> Tensor:
    """``count`` crops of the astronaut, ``[b 3 256 256]`` in [-1, 1]."""
    with Image.open(ASTRONAUT) as picture:
        cuts = [picture.convert("RGB").crop((8 * i, 0, 8 * i + 384, 384)).resize((256, 256)) for i in range(count)]
    pixels = [torch.frombuffer(bytearray(cut.tobytes()), dtype=torch.uint8).view(256, 256, 3) for cut in cuts]
    return torch.stack(pixels).permute(0, 3, 1, 2) / 127.5 - 1


def measure(stage: str, learn: bool, count: int) -> dict[str, float]:
    """Seconds and gigabytes of this process, over ``count`` steps after two."""
    with tempfile.TemporaryDirectory() as folder:
        taken: Callable[[], Iterator[None]] = (
            (lambda: trainer(stage, learn, Path(folder))) if reached(stage, "trainer") else (lambda: loop(stage, learn))
        )
        seconds = []
        learning = taken()
        for _ in range(count + 2):
            start = time.perf_counter()
            next(learning)
            seconds.append(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return {"seconds": statistics.median(seconds[2:]), "least": min(seconds[2:]), "peak": peak}


def apart(stage: str, learn: bool, given: argparse.Namespace) -> dict[str, float]:
    """``measure`` in a process of its own."""
    command = [sys.executable, __file__, "--stage", stage, "--steps", str(given.steps), *(["--learn"] if learn else [])]
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="steps that are timed; lookahead acts in every sixth")
    parser.add_argument("--rows", nargs="*", choices=STAGES, default=list(STAGES), help="only these")
    parser.add_argument("--stage", choices=STAGES, help="one row, in this process, as JSON")
    parser.add_argument("--learn", action="store_true", help="with --stage: with the optimiser")
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(measure(given.stage, given.learn, given.steps)))
        return
    print("| | s | GB | s without optimiser | GB without optimiser |\n|---|---|---|---|---|", flush=True)
    for stage in given.rows:
        cells = []
        for learn in (True, False):
            if not learn and stage not in ALSO_WITHOUT:
                cells += ["", ""]
                continue
            found = apart(stage, learn, given)
            cells += [f"{found['seconds']:.2f}", f"{found['peak']:.2f}"]
        mark = "" if stage == "naive" or reached(stage, "trainer") else "+ "
        print(f"| {mark}{STAGES[stage]} | {' | '.join(cells)} |", flush=True)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\ntorch {torch.__version__}, {given.threads} threads, {platform.machine()}, load average at the end {load}")


if __name__ == "__main__":
    main()
