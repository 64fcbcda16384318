"""What is answered when a task is asked of a photograph: by nobody, by a model, and by descending on the rows.

Sources are made as for training and ``translate``, one for each photograph and the same every time: what is random in
them follows from the photograph's place among all. An answer is a picture as users get it: drawn in full, clipped and
area-pooled to 256 pixels. This module does not know how answers are judged.

Axes: ``c`` channels of a source, ``k`` rows, ``d`` width of a row.
"""

import hashlib
import secrets
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

from pixel2style import images
from pixel2style.config import SourceConfig
from pixel2style.inference.optimize import adam
from pixel2style.inference.optimize.newton import Corrector
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE, pooled
from pixel2style.tasks import degrade, find_task
from pixel2style.training import dataset

SEED = 0


@dataclass(frozen=True)
class Case:
    """A task, and where it spoils photographs, how: ``kind`` is what its rows are called, ``source`` its settings."""

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
    """A photograph ``target`` [1 3 256 256], its ``place`` among all, and its ``source`` [1 c 256 256]."""

    place: int
    target: Tensor
    source: Tensor

    @property
    def known(self) -> Tensor | None:
        """Which pixels the source shows, [1 1 256 256], where it hides some."""
        return self.source[:, 3:] if self.source.shape[1] == 4 else None


@dataclass(frozen=True)
class Answer:
    """A picture ``[1 3 256 256]`` in [-1, 1], and the wall time of encoding and decoding, where there was any."""

    picture: Tensor
    seconds: float | None = None


Answers = Callable[[Example], Answer]


@dataclass(frozen=True)
class Descent:
    """How rows are optimised, and where they are kept, so that an interrupted run goes on."""

    steps: int = 100
    lr: float = adam.LR
    bf16: bool = True
    folder: Path | None = None


def examples(case: Case, photographs: Sequence[tuple[int, Image.Image]]) -> list[Example]:
    """What a case shows of photographs, each given with its place among all."""
    task = find_task(case.task)
    made = []
    for place, photograph in photographs:
        target = images.to_tensor(photograph.resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))[None]
        seed = dataset.seeds(SEED, 0, place + 1)[-1]
        # not mirrored: users show photographs as they are
        made.append(Example(place, target, dataset.task_source(task, target, [seed], case.source, mirror=False)))
    return made


def trivial(case: Case, model: PSP) -> Iterator[tuple[str, Answers]]:
    """What needs no model; to invert, the model's average face."""
    if case.task == "invert":
        average = cache(lambda: drawn(model, model.w_avg[None]))
        yield "the average face", lambda example: Answer(average())
    elif case.task == "superres":
        yield "bicubic enlargement", lambda example: Answer(example.source)
    elif case.task == "inpaint":
        yield "the masked picture", lambda example: Answer(example.source[:, :3])
    elif case.task == "frontalize":
        yield "the photograph itself", lambda example: Answer(example.target)
        yield "the mirrored photograph", lambda example: Answer(example.target.flip(-1))


@torch.no_grad()
def encoded(model: PSP, example: Example, case: Case, corrector: Corrector | None = None, steps: int = 0) -> Answer:
    """What the encoder makes of a source, after ``steps`` that hold it to what the source shows."""
    start = time.perf_counter()
    ws = model.encode(example.source)
    if corrector is not None and steps:
        ws = corrector(example.source[:, :3], ws, steps, shown=seen_through(case, example))
    drawn_in_full = model.decode(ws)
    return Answer(finished(model, drawn_in_full), time.perf_counter() - start)


def optimized(model: PSP, case: Case, descent: Descent, example: Example) -> Answer:
    """What is drawn by rows that were optimised, from the average, for what the source shows and nothing else."""
    ws, seconds = _kept(model, case, descent, example)
    start = time.perf_counter()
    picture = drawn(model, ws)
    return Answer(picture, seconds + time.perf_counter() - start)


def seen_through(case: Case, example: Example) -> Callable[[Tensor], Tensor] | None:
    """What is done to drawn pictures before they are compared with the source, so that only what it shows counts."""
    if case.task == "superres":
        (factor,) = case.source.factors
        return partial(degrade.low_resolution, factor=factor)
    known = example.known
    return None if known is None else lambda pictures: pictures * known


@torch.no_grad()
def drawn(model: PSP, ws: Tensor) -> Tensor:
    """What rows ``[1 k d]`` draw, as an answer: ``[1 3 256 256]``."""
    return finished(model, model.decode(ws))


def finished(model: PSP, picture: Tensor) -> Tensor:
    """A picture as drawn, clipped and pooled to 256 pixels."""
    return pooled(model.framed(picture).float().clamp(-1, 1))


def _kept(model: PSP, case: Case, descent: Descent, example: Example) -> tuple[Tensor, float]:
    """Optimised rows ``[1 k d]`` and the seconds that they took, read from the cache where they lie in it."""
    file = None if descent.folder is None else descent.folder / _name(model, case, descent, example)
    if file is not None and file.is_file():
        try:
            found = load_file(file)
            return found["ws"], float(found["seconds"])
        except (OSError, SafetensorError, KeyError):
            pass  # damaged: found again
    start = time.perf_counter()
    ws = adam.optimize_rows(
        model,
        example.source[:, :3],
        steps=descent.steps,
        lr=descent.lr,
        bf16=descent.bf16,
        shown=seen_through(case, example),
    )
    seconds = time.perf_counter() - start
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        unfinished.write_bytes(save({"ws": ws.contiguous(), "seconds": torch.tensor(seconds)}))
        unfinished.replace(file)
    return ws, seconds


def _name(model: PSP, case: Case, descent: Descent, example: Example) -> str:
    """Of the file of optimised rows: the photograph's place and a digest of all that they follow from.

    The task is not among that: where a whole photograph is shown, invert and frontalize ask for the same rows.
    """
    shown = f"{case.task}-{case.kind}" if case.kind else "whole"
    said = (shown, descent.steps, descent.lr, descent.bf16, adam.LOSS, model.config.generator)
    digest = hashlib.sha256(repr(said).encode())
    for tensor in (example.source, model.w_avg, model.w_unit):
        digest.update(tensor.detach().float().contiguous().cpu().numpy().tobytes())
    return f"{shown}-{example.place:04d}-{digest.hexdigest()[:16]}.safetensors"
