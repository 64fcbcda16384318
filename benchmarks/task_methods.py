"""The methods that ``tasks.py`` compares: trivial results, the model, and direct optimisation of the rows.

Sources are made as for training and ``translate``, one for each photograph and the same every time: random numbers are
seeded with the photograph's index. A result is a picture as users get it: drawn in full, clipped and area-pooled to 256
pixels.

Axes: ``c`` channels of a source, ``k`` rows, ``d`` width of a row.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pixel2style import files, images
from pixel2style.config import SourceConfig
from pixel2style.inference.optimize import Optimize, adam
from pixel2style.inference.refine import Goal, refine
from pixel2style.inference.session import Session
from pixel2style.metrics.losses import Objective
from pixel2style.models.inversion import Inversion
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE, pooled
from pixel2style.tasks import degrade, find_task
from pixel2style.training import dataset

SEED = 0


@dataclass(frozen=True)
class Case:
    """A task and the degradation of its sources: ``kind`` is its name in tables, ``source`` its settings."""

    task: str
    kind: str = ""
    source: SourceConfig = SourceConfig()  # noqa: RUF009 (it is frozen)


CASES = (
    Case("invert"),
    *(Case("superres", str(factor), SourceConfig(factors=(factor,))) for factor in (8, 16, 32)),
    *(Case("inpaint", mask, SourceConfig(masks=(mask,))) for mask in ("box", "half", "strokes")),
    Case("frontalize"),
)


@dataclass(frozen=True)
class Example:
    """A photograph ``target`` [1 3 256 256], its index ``place``, and its ``source`` [1 c 256 256]."""

    place: int
    target: Tensor
    source: Tensor

    @property
    def known(self) -> Tensor | None:
        """Which pixels the source shows, [1 1 256 256], where it hides some."""
        return self.source[:, 3:] if self.source.shape[1] == 4 else None


@dataclass(frozen=True)
class Result:
    """A picture ``[1 3 256 256]`` in [-1, 1], and the wall time of encoding and decoding, if any."""

    picture: Tensor
    seconds: float | None = None


Method = Callable[[Example], Result]


@dataclass(frozen=True)
class Optimization:
    """How rows are optimised, and the folder in which they are cached, so that an interrupted run continues."""

    steps: int = 100
    lr: float = adam.LR
    bf16: bool = True
    folder: Path | None = None


def examples(case: Case, photographs: Sequence[tuple[int, Image.Image]]) -> list[Example]:
    """The examples of a case, of photographs with their indices."""
    task = find_task(case.task)
    made = []
    for place, photograph in photographs:
        target = images.to_tensor(photograph.resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))[None]
        seed = dataset.sample_seeds(SEED, 0, place + 1)[-1]
        # not mirrored: users' photographs are not, either
        made.append(Example(place, target, dataset.make_sources(task, target, [seed], case.source, mirror=False)))
    return made


def trivial(case: Case, model: PSP) -> Iterator[tuple[str, Method]]:
    """Names and methods that need no encoder; for inversion, the model's average face."""
    if case.task == "invert":
        average = cache(lambda: drawn(model, model.w_avg[None]))
        yield "the average face", lambda example: Result(average())
    elif case.task == "superres":
        yield "bicubic enlargement", lambda example: Result(example.source)
    elif case.task == "inpaint":
        yield "the masked picture", lambda example: Result(example.source[:, :3])
    elif case.task == "frontalize":
        yield "the photograph itself", lambda example: Result(example.target)
        yield "the mirrored photograph", lambda example: Result(example.target.flip(-1))


@torch.no_grad()
def encoded(
    model: PSP, example: Example, case: Case, optimize: Optimize | None = None, steps: int = 0, detail: bool = True,
    goal: Goal | None = None, objective: Objective | None = None,
) -> Result:  # fmt: skip
    """The model's result, with ``steps`` of refinement towards what the source shows, and features if it has them.

    With a ``goal`` and its ``objective`` features are refined, too.
    """
    start, begun = time.perf_counter(), time.monotonic()
    ws = model.encode(example.source)
    if optimize is not None and steps:
        ws = optimize(model, example.source[:, :3], ws, steps, degradation=degradation(case, example))
    shown = find_task(case.task).shown if detail else None
    images = None if shown is None else partial(shown, example.source, degradation=degradation(case, example))
    inversion = Inversion(ws) if images is None else model.with_detail(images, ws)
    if goal is not None and objective is not None:
        inversion = refine(model, example.source, inversion, goal, objective, begun=begun).inversion
    picture = model.decode(inversion.ws, features=inversion.features)
    return Result(finished(model, picture), time.perf_counter() - start)


def by_session(session: Session, example: Example) -> Result:
    """What ``pixel2style invert --no-align`` makes of the photograph, which the lines above get as a tensor."""
    start = time.perf_counter()
    drawn = session.invert(images.to_picture(example.target[0]), align=False).reconstruction
    return Result(pooled(images.to_tensor(drawn)[None]), time.perf_counter() - start)


def optimized(model: PSP, case: Case, optimization: Optimization, example: Example) -> Result:
    """The result of rows optimised from the average, with only what the source shows."""
    ws, seconds = _cached(model, case, optimization, example)
    start = time.perf_counter()
    picture = drawn(model, ws)
    return Result(picture, seconds + time.perf_counter() - start)


def degradation(case: Case, example: Example) -> Callable[[Tensor], Tensor] | None:
    """The degradation of the source, for drawn pictures before they are compared with it; None where there is none."""
    if case.task == "superres":
        (factor,) = case.source.factors
        return partial(degrade.low_resolution, factor=factor)
    known = example.known
    return None if known is None else lambda pictures: pictures * known


@torch.no_grad()
def drawn(model: PSP, ws: Tensor) -> Tensor:
    """Rows ``[1 k d]`` to the picture of a result: ``[1 3 256 256]``."""
    return finished(model, model.decode(ws))


def finished(model: PSP, picture: Tensor) -> Tensor:
    """A drawn picture, clipped and pooled to 256 pixels."""
    return pooled(model.framed(picture).float().clamp(-1, 1))


def _cached(model: PSP, case: Case, optimization: Optimization, example: Example) -> tuple[Tensor, float]:
    """Optimised rows ``[1 k d]`` and the seconds that they took, from the cache if they are there."""
    file = None if optimization.folder is None else optimization.folder / _name(model, case, optimization, example)
    if file is not None and file.is_file():
        try:
            found = load_file(file)
            return found["ws"], float(found["seconds"])
        except (OSError, SafetensorError, KeyError):
            pass  # damaged: computed again
    start = time.perf_counter()
    ws = adam.optimize(
        model,
        example.source[:, :3],
        steps=optimization.steps,
        lr=optimization.lr,
        bf16=optimization.bf16,
        degradation=degradation(case, example),
    )
    seconds = time.perf_counter() - start
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(file, save({"ws": ws.contiguous(), "seconds": torch.tensor(seconds)}))
    return ws, seconds


def _name(model: PSP, case: Case, optimization: Optimization, example: Example) -> str:
    """The file name of optimised rows: the photograph's index and a digest of everything that determines them.

    The task is not part of it where the whole photograph is shown: invert and frontalize have the same rows.
    """
    shown = f"{case.task}-{case.kind}" if case.kind else "whole"
    determined_by = (shown, optimization.steps, optimization.lr, optimization.bf16, adam.LOSS, model.config.generator)
    digest = hashlib.sha256(repr(determined_by).encode())
    for tensor in (example.source, model.w_avg, model.w_unit):
        digest.update(tensor.detach().float().contiguous().cpu().numpy().tobytes())
    return f"{shown}-{example.place:04d}-{digest.hexdigest()[:16]}.safetensors"
