"""Seconds of a training step of a compact preset on a CPU, part by part: plain, with `adjoint`, and compiled.

    chrt --fifo 1 python benchmarks/compact_step.py --compile

Pictures are drawn by the bundled generator, 8 at once; one iteration of `faces`, bfloat16, the bundled loss networks,
one thread. "plain" leaves the generator's backward pass to autograd. "compiled" is what `--compile True` does on a CPU:
the encoder goes through torch.compile, the generator does not. The variants alternate in one run; seconds are medians.
"""

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch import Tensor

from pixel2style import checkpoints, runtime
from pixel2style.generators.mobilestylegan import adjoint
from pixel2style.metrics.losses import Objective, Reconstruction
from pixel2style.models.psp import PSP, Generator
from pixel2style.ops import pooled
from pixel2style.tasks.presets import PRESETS
from pixel2style.training.memory import recast

PARTS = ("encoder", "generator", "losses", "back through losses", "back through generator", "back through encoder")


@contextmanager
def plainly() -> Iterator[None]:
    """Without hand-written backward passes."""
    with mock.patch.object(adjoint, "is_usable", lambda *given: False):
        yield


def step(model: PSP, pictures: Tensor, objective: Objective, compiled: bool) -> list[float]:
    """Seconds of each part of one step. Each part has a backward pass of its own; the sum of the work is the same."""
    times = [time.perf_counter()]
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), nullcontext() if compiled else recast():
        target = objective.target_of(pictures)
        times[0] = time.perf_counter()
        ws = model.step(model.fit(pictures), None, None)
        times.append(time.perf_counter())
        rows = ws.detach().requires_grad_()
        drawn = model.generator.synthesize(rows, 256)  # type: ignore[operator]
        times.append(time.perf_counter())
        seen = drawn.detach().float().requires_grad_()
        away = rows - model.w_avg
        loss, _ = objective(Reconstruction(target, away, away / model.w_unit, pooled(seen)))
    times.append(time.perf_counter())
    torch.autograd.backward(loss)
    times.append(time.perf_counter())
    assert seen.grad is not None
    torch.autograd.backward(drawn, seen.grad.to(drawn.dtype))
    times.append(time.perf_counter())
    torch.autograd.backward(ws, rows.grad)
    times.append(time.perf_counter())
    model.encoder.zero_grad(set_to_none=True)
    return [after - before for before, after in itertools.pairwise(times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="also compiled: minutes before the first step")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runtime.keep_freed_memory()
    objective = Objective(PRESETS["invert"].config.loss)
    ways = {"plain": checkpoints.load("faces"), "adjoint": checkpoints.load("faces")}
    if arguments.compile:
        ways["adjoint, compiled"] = checkpoints.load("faces")
        ways["adjoint, compiled"].encoder.compile(dynamic=False)
    for model in ways.values():
        model.encoder.train().requires_grad_()
    generator: Generator = ways["plain"].generator  # type: ignore[assignment]
    with torch.inference_mode():
        drawn = generator.synthesize(generator.map(torch.randn(arguments.batch, 512)), 256)
    pictures = drawn.clamp(-1, 1).clone()
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    for turn in range(arguments.repeats + 2):
        for name, model in ways.items():
            with plainly() if name == "plain" else nullcontext():
                seconds = step(model, pictures, objective, "compiled" in name)
            if turn > 1:
                found[name].append(seconds)
    print(f"| seconds for {arguments.batch} pictures | {' | '.join(PARTS)} | all |\n|---{'|---' * (len(PARTS) + 1)}|")
    for name, steps in found.items():
        medians = [statistics.median(column) for column in zip(*steps, strict=True)]
        total = statistics.median([sum(own) for own in steps])
        print(f"| {name} | {' | '.join(f'{seconds:.2f}' for seconds in medians)} | {total:.2f} |")
    print(f"\ntorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, one thread")


if __name__ == "__main__":
    main()
