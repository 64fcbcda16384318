"""Quality lost when weights are stored in fewer bytes: a model as its difference to `faces`, `faces`, the loss
networks.

    python benchmarks/differences.py --model runs/superres/best.safetensors --data celebahq_val ffhq_val

Photographs (folders of them, aligned as in FFHQ) and their degradations are the same for all rows of a table, those of
validation during training, drawn at 256 pixels. Sizes are of the encoder's file in MB (10^6 bytes). With ``--factors``
it prints instead the scores of a superres model at each factor, beside bicubic enlargement.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from pixel2style import assets, checkpoints, images, tasks
from pixel2style.config import SourceConfig
from pixel2style.faces import align, mtcnn
from pixel2style.formats import quantized
from pixel2style.metrics.lpips import LPIPS
from pixel2style.metrics.scores import Scorer, Scores
from pixel2style.models.psp import PSP
from pixel2style.training.dataset import Pictures

BASE = "faces"
GOLDEN = Path(__file__).parent.parent / "tests/golden/lpips_published.npz"
State = dict[str, Tensor]
Stored = tuple[State, float]
"""Tensors after storing and reading, and their size in MB."""


@torch.no_grad()
def scored(model: PSP, pictures: Pictures, scorer: Scorer, enlarged: bool = False) -> Scores:
    """Scores of a model on all ``pictures``, or of its sources, unchanged."""
    parts = []
    for first in range(0, len(pictures), 8):
        sources, targets = pictures.fixed(first, first + 8)
        drawn = sources if enlarged else model.framed(model.decode(model.encode(sources), 256))
        parts.append(scorer(drawn, targets))
    return Scores.joined(parts)


def own(model: PSP) -> State:
    """The tensors of a bundled model file: all but the generator."""
    return {key: value for key, value in model.state_dict().items() if not key.startswith("generator.")}


def size(stored: State) -> float:
    return len(save({key: value.contiguous() for key, value in stored.items()})) / 1e6


def as_halves(state: State) -> Stored:
    stored = {key: value.half() if value.ndim > 1 and "w_avg" not in key else value for key, value in state.items()}
    return {key: value.float() for key, value in stored.items()}, size(stored)


def as_difference(bits: int, base: State) -> Callable[[State], Stored]:
    """Quantised, against ``base``."""

    def made(state: State) -> Stored:
        found = {key: quantized.between(value, base[key], bits) or {} for key, value in state.items()}
        stored = {f"{key}/{part}": value for key, parts in found.items() for part, value in parts.items()}
        restored = {key: quantized.together(parts, base[key]) for key, parts in found.items()}
        return {key: value for key, value in restored.items() if value is not None}, size(stored)

    return made


def as_whole_numbers(bits: int) -> Callable[[State], Stored]:
    """Every matrix and convolution alone, with a step per channel."""

    def made(state: State) -> Stored:
        large = {key: value for key, value in state.items() if value.ndim > 1 and "w_avg" not in key}
        rest = {key: value for key, value in state.items() if key not in large}
        restored, taken = as_difference(bits, {key: torch.zeros_like(value) for key, value in large.items()})(large)
        return {**rest, **restored}, taken + size(rest)

    return made


def as_low_rank(rank: int, base: State) -> Callable[[State], Stored]:
    """The difference's largest singular vectors, fp16; what is smaller without them is stored as fp16."""

    def made(state: State) -> Stored:
        stored, restored = {}, {}
        for key, value in state.items():
            difference = value - base[key]
            matrices = difference if difference.ndim == 3 else difference.flatten(1) if difference.ndim > 1 else None
            if matrices is None or rank * sum(matrices.shape[-2:]) >= math.prod(matrices.shape[-2:]):
                stored[key] = difference.half()
                restored[key] = base[key] + stored[key].float()
                continue
            u, s, v = torch.linalg.svd(matrices, full_matrices=False)
            left, right = (u[..., :rank] * s[..., None, :rank]).half(), v[..., :rank, :].half()
            stored |= {f"{key}/left": left, f"{key}/right": right}
            restored[key] = base[key] + (left.float() @ right.float()).reshape(value.shape)
        return restored, size(stored)

    return made


def models(model: PSP, ways: dict[str, Callable[[State], Stored]], pictures: Pictures, scorer: Scorer) -> Iterator[str]:
    """Lines of a table: size and mean scores of each storage, and the difference of the scores to the first."""
    original = {key: value.clone() for key, value in own(model).items()}
    yield "| stored as | MB | L2 | LPIPS | identity |\n|---|---|---|---|---|"
    first: dict[str, float] = {}
    for name, way in ways.items():
        state, taken = way(original)
        model.load_state_dict({**model.state_dict(), **state})
        means = scored(model, pictures, scorer).means()
        first = first or means
        cells = [f"{means[m]:.4f} ({means[m] / first[m] - 1:+.1%})" for m in ("l2", "lpips", "identity")]
        yield f"| {name} | {taken:.1f} | {' | '.join(cells)} |"
    model.load_state_dict({**model.state_dict(), **original})


def lpips_in_whole_numbers() -> Iterator[str]:
    """The relative error to the published figures, with fewer bits in LPIPS."""
    sys.path.insert(0, str(GOLDEN.parents[2]))
    from tests.support.golden_rule import img

    golden = np.load(GOLDEN)

    y, other = img("y", 2, 3, 256, 256), img("y_hat", 2, 3, 256, 256)
    weights = assets.read("lpips_alex")
    yield "| lpips_alex | MB | off, unlike pictures | off, nearly equal ones |\n|---|---|---|---|"
    for name, way in {"fp16 (bundled)": as_halves, "int8": as_whole_numbers(8), "int6": as_whole_numbers(6)}.items():
        state, taken = way(weights)
        lpips = LPIPS("alex", state)
        with torch.no_grad():
            found = [lpips(y, made) for made in (other, y + 0.05 * other)]
        expected = [torch.from_numpy(golden[f"alex{part}"]) for part in ("", "_near")]
        off = [float((f.flatten() - e.flatten()).norm() / e.norm()) for f, e in zip(found, expected, strict=True)]
        yield f"| {name} | {taken:.2f} | {off[0]:.1e} | {off[1]:.1e} |"


def mtcnn_in_halves(photo: Path) -> Iterator[str]:
    """How far boxes and landmarks move."""
    aligner = align.FaceAligner()
    picture = images.load(photo)
    before = aligner.detect(picture)
    detector = next(value for value in vars(aligner).values() if isinstance(value, mtcnn.MTCNN))
    detector.load_state_dict({key: value.half().float() for key, value in detector.state_dict().items()})
    after = aligner.detect(picture)
    yield f"mtcnn as fp16 on {photo.name}: {len(before)} faces before, {len(after)} after; the first:"
    for part in ("box", "landmarks"):
        one, other = (torch.as_tensor(np.asarray(getattr(faces[0], part))) for faces in (before, after))
        yield f"  {part} moves by {(one - other).abs().max():.3f} pixels"


def at_factors(model: PSP, data: list[str], scorer: Scorer) -> Iterator[str]:
    yield "| factor | L2 | LPIPS | identity | bicubic: L2 | LPIPS | identity |\n|---|---|---|---|---|---|---|"
    for factor in (4, 8, 16, 32):
        pictures = validation(data, "superres", model, (factor,))
        rows = [scored(model, pictures, scorer, enlarged).means() for enlarged in (False, True)]
        cells = [f"{means[m]:.4f}" for means in rows for m in ("l2", "lpips", "identity")]
        yield f"| {factor} | {' | '.join(cells)} |"


def validation(data: list[str], task: str, model: PSP, factors: tuple[int, ...] = SourceConfig().factors) -> Pictures:
    side = model.encoder.config.input_size
    source = SourceConfig(factors=factors)
    return Pictures(data, (), tasks.find_task(task), source, side=side, mirror=False, augment=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help=f"a model that started from {BASE}")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--factors", action="store_true")
    options = parser.parse_args()
    scorer = Scorer()
    model, base = checkpoints.load(options.model), checkpoints.load(BASE)
    if options.factors:
        print(*at_factors(model, options.data, scorer), sep="\n")
        return
    start = {key: value.clone() for key, value in own(base).items()}
    ways: dict[str, Callable[[State], Stored]] = {
        "fp32": lambda state: (state, size(state)),
        "fp16": as_halves,
        **{f"difference, {bits} bits": as_difference(bits, start) for bits in (8, 4, 3, 2)},
        **{f"difference, rank {rank}": as_low_rank(rank, start) for rank in (32, 16, 8)},
    }
    pictures = validation(options.data, model.config.task, model)
    print(f"{model.config.task}, {len(pictures)} photographs\n")
    for line in models(model, ways, pictures, scorer):
        print(line, flush=True)
    ways = {"fp16 (bundled)": as_halves, **{f"int{bits}": as_whole_numbers(bits) for bits in (8, 6, 4)}}
    print(f"\n{BASE}, the same photographs\n")
    for line in models(base, ways, validation(options.data, base.config.task, base), scorer):
        print(line, flush=True)
    print("", *lpips_in_whole_numbers(), "", sep="\n")
    print(*mtcnn_in_halves(Path(__file__).parent.parent / "examples/astronaut.png"), sep="\n")


if __name__ == "__main__":
    main()
