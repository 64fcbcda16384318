"""Quality and cost of inversion: the bundled model beside its alternatives, as a table.

    python benchmarks/inversion.py --data celebahq_val.tar ffhq_val.tar --single-w w.safetensors --optimize 20

The photographs (aligned as in FFHQ; folders or tars, whose ``masks`` are left out) are compared with the pictures that
users get: drawn in full, clipped, and area-pooled to 256 pixels. Direct optimisation starts from the average face and
is slow, so it runs for ``--optimize`` photographs, evenly spaced among all, and the model is evaluated on these, too.
Time is CPU seconds of the process to find the rows of one photograph, one after the other on ``--threads`` threads, the
median; other work on the machine has little effect on it.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import photographs
from pixel2style import checkpoints, images
from pixel2style.errors import ConfigError
from pixel2style.inference.optimize import adam
from pixel2style.metrics.scores import Scorer, Scores
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE

Invert = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One method: its mean scores over ``photographs``, and median CPU seconds for the rows of one."""

    name: str
    photographs: int
    l2: float
    psnr: float
    lpips: float
    identity: float
    seconds: float


def measure(name: str, model: PSP, invert: Invert, pictures: list[Tensor], scorer: Scorer) -> Row:
    """Invert, draw and score photographs one after the other."""
    scores, seconds = [], []
    before, drawn = None, torch.empty(0)
    for done, photograph in enumerate(pictures, 1):
        start = time.process_time()
        ws = invert(photograph)
        seconds.append(time.process_time() - start)
        if before is None or not torch.equal(ws, before):  # the average face is drawn once
            before, drawn = ws, draw(model, ws)
        scores.append(scorer(drawn, photograph))
        print(f"\r{name}: {done} of {len(pictures)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return Row(name, len(pictures), **Scores.joined(scores).means(), seconds=statistics.median(seconds))


@torch.inference_mode()
def draw(model: PSP, ws: Tensor) -> Tensor:
    return model.decode(ws)


@torch.inference_mode()
def encode(model: PSP, photograph: Tensor) -> Tensor:
    return model.encode(photograph)


def inverters(arguments: argparse.Namespace, total: int) -> Iterator[tuple[str, PSP, Invert, int | None]]:
    """The methods: name, model, function from photograph to rows, and number of photographs (None: all)."""
    model = checkpoints.load(arguments.model)
    yield "the average face", model, lambda _: model.w_avg[None], None
    others = {"single-W encoder": arguments.single_w} if arguments.single_w else {}
    for word in arguments.also:
        name, equals, file = word.partition("=")
        if not equals:
            raise ConfigError(f"--also {word} says no file: write it as NAME=FILE")
        others[name] = file
    for name, file in others.items():
        other = checkpoints.load(file)
        yield name, other, partial(encode, other), None
    ours = f"`{Path(arguments.model).stem}`"
    yield ours, model, partial(encode, model), None

    def optimize(photograph: Tensor) -> Tensor:
        return adam.optimize(model, photograph, steps=arguments.steps, lr=arguments.lr, bf16=arguments.bf16)

    if arguments.optimize:
        yield f"{arguments.steps} steps of direct optimisation", model, optimize, arguments.optimize
        if arguments.optimize < total:
            yield ours, model, partial(encode, model), arguments.optimize


def table(rows: list[Row]) -> str:
    """Markdown; the number of photographs is given where it is not all of them."""
    most = max(row.photographs for row in rows)
    lines = [f"| {most} photographs, {COMPARE_SIZE} pixels | L2 | PSNR | LPIPS-alex | identity | CPU s a photograph |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        name = row.name if row.photographs == most else f"{row.name} ({row.photographs} of them)"
        scores = f"{row.l2:.4f} | {row.psnr:.2f} | {row.lpips:.4f} | {row.identity:.3f}"
        lines.append(f"| {name} | {scores} | {row.seconds:.2f} |")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> None:
    pictures = [images.to_tensor(photograph)[None] for photograph in photographs.read(arguments.data)]
    scorer = Scorer()
    rows = []
    for name, model, invert, count in inverters(arguments, len(pictures)):
        rows.append(measure(name, model, invert, photographs.spaced(pictures, count), scorer))
    print(f"{table(rows)}\n\n{photographs.circumstances(arguments.threads)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tars of aligned photographs")
    parser.add_argument("--model", default="faces", help="bundled name or file")
    parser.add_argument("--single-w", metavar="FILE", help="a single-W encoder to compare with")
    parser.add_argument("--also", metavar="NAME=FILE", action="append", default=[], help="any other model")
    parser.add_argument("--optimize", metavar="N", type=int, default=20, help="photographs to optimise rows for")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=adam.LR)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="for the optimisation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    return photographs.exit_code(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
