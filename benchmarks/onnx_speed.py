"""Speed and error of exported graphs: PyTorch and ONNX Runtime side by side, on one picture, on a CPU.

    python benchmarks/onnx_speed.py                        the bundled model
    python benchmarks/onnx_speed.py --model paper          pSp at paper size, of random weights (8 GB of memory)

Each part of a model is exported as ``pixel2style export onnx`` does it, error included. Then both run in one process,
one after the other; seconds are the minimum and, in parentheses, the median of the rounds, wall time. On Linux, where
the user may (root, or a real-time limit), the process has real-time priority while it measures, as under ``chrt --fifo
1``, so that other work on the machine has little effect. "paper" is the encoder of the preset ``invert`` with StyleGAN2
at 1024 pixels; random weights take as long as trained ones.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

import pixel2style as p2s
from pixel2style import export
from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.export.graphs import PARTS, Graph, graph_of
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.models import encoders
from pixel2style.models.psp import PSP
from pixel2style.tasks import presets


def paper() -> PSP:
    """pSp as published, untrained."""
    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=1024))
    shape = EncoderConfig(**asdict(presets.PRESETS["invert"].config.encoder), rows=generator.rows)
    return PSP(encoders.build(shape), generator, ModelConfig(shape, generator.config), torch.zeros(512)).eval()


def schedule(policy: int, priority: int) -> None:
    """Put every thread of this process under ``policy``, where that is allowed."""
    with contextlib.suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))


def seconds(step: Callable[[], object], rounds: int) -> list[float]:
    """Wall times of ``step`` at real-time priority; the rounds before the first that counts make threads and
    buffers."""
    step()
    schedule(os.SCHED_FIFO, 1)
    try:
        taken = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            step()
            taken.append(time.perf_counter() - start)
    finally:
        schedule(os.SCHED_OTHER, 0)
    return taken[1:]


def measure(graph: Graph, file: Path, threads: int, rounds: int) -> list[list[float]]:
    """Seconds of one picture: PyTorch first, because ONNX Runtime's waiting threads would slow it down."""
    torch.set_num_threads(threads)
    shown = graph.example(1)
    pytorch = seconds(lambda: graph.network(shown), rounds)
    run = export.FORMS["onnx"][1](file)
    return [pytorch, seconds(lambda: run(shown), rounds)]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="faces", help="paper, a bundled name, or a file")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()

    model = paper() if given.model == "paper" else p2s.load(given.model)
    print("| model | part | error | threads | PyTorch | ONNX Runtime | times as fast |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts:
            graph = graph_of(model, part)
            made = export.export_graph(graph, "onnx", Path(folder, f"{part}.onnx"))
            error = ", ".join(f"{name} {found.error:.0e} of {found.largest:.1f}" for name, found in made.gives.items())
            for threads in given.threads:
                times = measure(graph, made.file, threads, given.rounds)
                least, ours = (f"{min(taken):.3f} s ({statistics.median(taken):.3f})" for taken in times)
                faster = statistics.median(times[0]) / statistics.median(times[1])
                name = Path(given.model).name
                print(f"| {name} | {part} | {error} | {threads} | {least} | {ours} | {faster:.2f} |", flush=True)
            made.file.unlink()


if __name__ == "__main__":
    main()
