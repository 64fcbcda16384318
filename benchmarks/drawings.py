"""How well faces agree with the drawings that they are made of: python benchmarks/drawings.py --data celebahq_val

The folder holds ``images/K.jpg``, aligned faces, and ``masks/K.png``, palette pictures of CelebAMask-HQ's classes.
Label maps are these masks; sketches are drawn from the photographs by ``pixel2style sketch``. Results are drawn in full
and pooled to 256 pixels. Beside the models: the photographs themselves, and the average face for every drawing.

- mIoU, pixels: regions of the result, by the bundled parser, against the label map.
- landmarks: mean distance, in pixels of 256, of MTCNN's five landmarks to those of the photograph. No step goes down
  this one: it says whether agreement is more than what the parser likes.
- edges: mean distance in pixels of a dark pixel of the sketch to the nearest one of the result's sketch, and back.
- LPIPS, dlib: distance and cosine of identity to the photograph. Frechet: between results and photographs, as in
  ``benchmarks/tasks.py``.
- diversity: mean LPIPS of pairs of ``--samples`` results, and mean cosine of their identities (dlib's), for ``--few``
  of the drawings; the second mIoU (or edges) is theirs. ``--rows`` and ``--alpha`` are those of ``translate``.

The encoder alone stands beside the command's default, where rows take ``--refine`` steps to follow the drawing.
"""

import argparse
import functools
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import photographs
import task_scores
from pixel2style import checkpoints, images
from pixel2style.faces.align import FaceAligner
from pixel2style.inference import prepare
from pixel2style.inference.rows import Fitter
from pixel2style.metrics import frechet, parsing
from pixel2style.metrics.identity import Identity
from pixel2style.metrics.scores import Scorer
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE, pooled
from pixel2style.tasks import label_maps, pencils
from pixel2style.tasks.request import Request

PEN = pencils.Pen("lines")
DARK = 0.6
"""Pixels of a sketch below this are part of a line."""
CLASSES = len(parsing.CLASSES)


@dataclass(frozen=True)
class Example:
    """A photograph ``[1 3 s s]`` and its label map ``[s s]``."""

    photograph: Tensor
    labels: Tensor

    @property
    def sketch(self) -> Tensor:
        """The photograph's sketch ``[1 1 s s]``."""
        return pencils.draw(self.photograph, PEN)

    @functools.cached_property
    def landmarks(self) -> Tensor | None:
        """Those of the photograph, as ``landmarks`` finds them."""
        return landmarks(self.photograph)

    def source(self, task: str) -> Tensor:
        """What the model of a task gets, ``[1 c s s]``."""
        return self.sketch if task == "sketch" else label_maps.one_hot(self.labels, CLASSES)[None]


def read(folder: Path, limit: int | None) -> list[Example]:
    """The examples of a folder, ``limit`` of them, evenly spaced."""
    found = []
    for file in photographs.spaced(sorted((folder / "images").iterdir()), limit):
        photograph = images.to_tensor(images.load(file).resize((COMPARE_SIZE, COMPARE_SIZE)))[None]
        mask = images.load_raw(folder / "masks" / f"{file.stem}.png")
        labels = label_maps.nearest(np.array(mask).astype(np.int64), COMPARE_SIZE)
        found.append(Example(photograph, torch.from_numpy(labels)))
    return found


def agreement(pictures: Sequence[Tensor], examples: Sequence[Example]) -> tuple[float, float]:
    """Mean intersection over union of the classes that occur, and the share of right pixels, over all pictures."""
    pairs = zip(pictures, examples, strict=True)
    tables = [parsing.confusion(parsing.regions(picture)[0], example.labels) for picture, example in pairs]
    return parsing.scores(torch.stack(tables).sum(0))[:2]


def edges(picture: Tensor, example: Example) -> float:
    """The mean distance, in pixels, between the lines of two sketches, both ways."""
    ours, theirs = ((sketch[0, 0] < DARK).nonzero().float() for sketch in (pencils.draw(picture, PEN), example.sketch))
    if not len(ours) or not len(theirs):
        return float(COMPARE_SIZE)
    distances = torch.cdist(ours, theirs)
    return float(distances.min(0).values.mean() + distances.min(1).values.mean()) / 2


@functools.cache
def aligner() -> FaceAligner:
    return FaceAligner("cpu")


def landmarks(picture: Tensor) -> Tensor | None:
    """MTCNN's landmarks ``[5 2]`` of the largest face in a picture ``[1 3 s s]``, None where it finds no face."""
    found = aligner().detect(images.to_picture(picture[0]).resize((2 * COMPARE_SIZE, 2 * COMPARE_SIZE)))
    return torch.from_numpy(found[0].landmarks) / 2 if found else None  # the largest is the first


def apart(pictures: Sequence[Tensor], examples: Sequence[Example]) -> str:
    """The mean distance of landmarks, where a face is found in both."""
    pairs = [(landmarks(ours), one.landmarks) for ours, one in zip(pictures, examples, strict=True)]
    found = [float((a - b).norm(dim=1).mean()) for a, b in pairs if a is not None and b is not None]
    return f"{statistics.fmean(found):.2f}" + ("" if len(found) == len(pairs) else f" of {len(found)}")


@torch.no_grad()
def drawn(model: PSP, ws: Tensor) -> Tensor:
    """What rows ``[1 k d]`` draw, pooled: ``[1 3 256 256]``."""
    return pooled(model.decode(ws).float().clamp(-1, 1))


def scores(task: str, pictures: Sequence[Tensor], examples: Sequence[Example], scorer: Scorer) -> list[str]:
    """The cells of a line: agreement with the drawing, and with the photograph."""
    cells = (
        [f"{statistics.fmean(map(edges, pictures, examples)):.2f}"]
        if task == "sketch"
        else [f"{value:.3f}" for value in agreement(pictures, examples)]
    )
    found = [scorer(picture, example.photograph).means() for picture, example in zip(pictures, examples, strict=True)]
    cells += [apart(pictures, examples)]
    cells += [f"{statistics.fmean(one[name] for one in found):.3f}" for name in ("lpips", "identity_dlib")]
    features = [
        torch.cat([list(scorer.lpips.maps(picture))[-1].mean((2, 3)) for picture in some])
        for some in (pictures, [example.photograph for example in examples])
    ]
    return [*cells, f"{frechet.distance(*features):.1f}"]


def diversity(request: Request, fitter: Fitter, examples: Sequence[Example], scorer: Scorer) -> list[str]:
    """Mean LPIPS and cosine of pairs of samples of the same drawing, and the samples' agreement with it."""
    identity, model = Identity("dlib"), fitter.model
    different, same, every, of = [], [], [], []
    for example in examples:
        with torch.no_grad():
            ws = followed(fitter, example, request)[0]
            source, many = example.source(request.task)[0], prepare.resampled(ws, model.generator, request)
            made = [drawn(model, one[None]) for one in fitter.follow(source, many, request)]
            different += [float(scorer.lpips(*pair)) for pair in itertools.combinations(made, 2)]
            same += [float(identity(*pair)) for pair in itertools.combinations(made, 2)]
        every += made
        of += [example] * len(made)
    drawn_lines = request.task == "sketch"
    agree = f"{statistics.fmean(map(edges, every, of)):.2f}" if drawn_lines else f"{agreement(every, of)[0]:.3f}"
    return [f"{statistics.fmean(different):.3f}", f"{statistics.fmean(same):.3f}", agree]


def followed(fitter: Fitter, example: Example, request: Request) -> Tensor:
    """The rows ``[1 k d]`` of a drawing as the command finds them."""
    source = example.source(request.task)
    return fitter.follow(source[0], fitter.model.encode(source).float(), request)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--data", type=Path, required=True)
    reader.add_argument("--tasks", nargs="+", default=["segmentation", "sketch"])
    reader.add_argument("--model", help="a file in place of the bundled model, of one task")
    reader.add_argument("--limit", type=int, help="so many of the pictures")
    reader.add_argument("--samples", type=int, default=10)
    reader.add_argument("--rows")
    reader.add_argument("--alpha", type=float)
    reader.add_argument("--few", type=int, default=5, help="of so many drawings")
    reader.add_argument("--refine", type=int)
    options = reader.parse_args()
    examples = read(options.data, options.limit)
    scorer = Scorer(full=True)
    for task in options.tasks:
        model = checkpoints.load(options.model or task).eval()
        fitter = Fitter(model)
        request = Request(task, samples=options.samples, rows=options.rows, alpha=options.alpha, refine=options.refine)
        encoder = replace(request, refine=0)
        with torch.no_grad():
            average = drawn(model, model.w_avg[None])
            alone, made = (
                [drawn(model, followed(fitter, example, one)) for example in examples] for one in (encoder, request)
            )
            lines = [
                [name, *scores(task, pictures, examples, scorer)]
                for name, pictures in (
                    ("the photographs", [example.photograph for example in examples]),
                    ("the average face", [average] * len(examples)),
                    ("the encoder alone", alone),
                    (f"**`{task}`**, {fitter.steps(request)} steps", made),
                )
            ]
        few = photographs.spaced(examples, options.few) if options.few else []
        ends = [[""] * 3] * 2 + [diversity(one, fitter, few, scorer) if few else [""] * 3 for one in (encoder, request)]
        lines = [[*line, *end] for line, end in zip(lines, ends, strict=True)]
        agree = ["edges, px"] if task == "sketch" else ["mIoU", "pixels"]
        titles = [f"{len(examples)} pictures", *agree, "landmarks, px", "LPIPS", "identity, dlib", "Frechet"]
        titles += ["diversity", "identity of samples", "agreement of samples"]
        print(f"{task}\n\n{task_scores.markdown(titles, lines)}\n", flush=True)


if __name__ == "__main__":
    main()
