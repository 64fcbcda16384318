"""Whether edits carry over to inversions with features: age, smile and pose, by several methods, as tables.

    python benchmarks/edits.py --data celebahq_val.tar ffhq_val.tar --photographs 50

Directions are those of the generator, and a strength is so many of their units. With ``--directions FOLDER`` they are
age.pt, smile.pt and pose.pt of the folder, or other files that ``editing.directions`` reads (for example those of
omertov/encoder4editing, MIT), scaled to length 1, so that a strength is the distance that every row moves in W.

A photograph is inverted (encoder, one Newton step, detail encoder), its rows are moved, and each of ``METHODS`` draws
the edited rows in full; pictures are clipped and area-pooled to 256 pixels. Three questions are asked of a picture:

- Did the edit happen? Age in years and the log-odds of a smile by `metrics.attributes`, yaw in degrees by MTCNN's
  landmarks, less those of the same method's picture without an edit. Networks of face-api and MTCNN judge; nothing here
  was trained with them.
- Is it the same person? Cosine by dlib's network to the photograph.
- Did anything else change? LPIPS to the photograph with the face of the latter (an ellipse) in both.

Time is CPU seconds of the process for one photograph and method before any edit is drawn.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import photographs
from pixel2style import checkpoints, images
from pixel2style.checkpoints.editor import bundled_editor
from pixel2style.editing import directions
from pixel2style.editing.carry import FADE, Carrier
from pixel2style.errors import ConfigError
from pixel2style.faces import align, pose
from pixel2style.generators.base import Generator
from pixel2style.inference import refine
from pixel2style.inference.edit import bundled
from pixel2style.inference.optimize import newton, weights
from pixel2style.metrics import attributes
from pixel2style.metrics.identity import Identity
from pixel2style.metrics.losses import Objective
from pixel2style.metrics.lpips import LPIPS
from pixel2style.models.inversion import Inversion
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE, pooled

Draw = Callable[[Tensor], Tensor]
"""Edited rows ``[1 k d]`` to a picture ``[1 3 r r]``."""
Method = Callable[[PSP, Tensor, "Found"], tuple[Tensor, Draw]]
"""A model, a photograph ``[1 3 h w]`` and what was found for it, to rows ``[1 k d]`` to edit and what draws them."""


@dataclass(frozen=True)
class Found:
    """What the encoder, a Newton step and the detail encoder find for a photograph."""

    rows: Tensor
    """``[1 k d]``, before they are moved towards W."""
    inversion: Inversion


def rows_alone(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """pSp: no features."""
    return found.rows, model.decode


def kept(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """The features as they are, whatever the edit changes."""
    return found.inversion.ws, lambda ws: model.decode(ws, features=found.inversion.features)


def carried_over(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """The features as ``editing.carry`` carries them over."""

    return carried_with(FADE, model, found.inversion)


def more_faded(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """``carried_over`` with more than twice the strength: the edit counts more than the photograph."""

    return carried_with(MORE, model, found.inversion)


def by_rules(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """``carried_over`` without the trained editor."""
    return carried_with(FADE, model, found.inversion, trained=False)


def carried_with(strength: float, model: PSP, inversion: Inversion, trained: bool = True) -> tuple[Tensor, Draw]:
    """The features as ``editing.carry`` carries them over, faded with ``strength``."""
    carrier = Carrier(model.generator, inversion, bundled_editor(model.generator) if trained else None)

    def draw(ws: Tensor) -> Tensor:
        return model.decode(ws, features=carrier(ws, strength).features)

    return inversion.ws, draw


def far_from_w(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """``carried_over`` with rows as they are found, not moved towards W (``DetailConfig.toward_w``)."""
    assert model.detail is not None
    own = model.detail.config
    model.detail.config = replace(own, toward_w=0.0)
    try:
        with torch.no_grad():
            inversion = model.with_detail(photograph, found.rows)
    finally:
        model.detail.config = own
    return carried_with(FADE, model, inversion)


def refined(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """``pixel2style refine``: features after ``STEPS`` steps towards the photograph, carried over."""
    goal = refine.Goal(steps=STEPS)
    better = refine.refine(model, photograph, found.inversion, goal, refine.objective_of(True)).inversion
    return carried_with(FADE, model, better)


def tuned(model: PSP, photograph: Tensor, found: Found) -> tuple[Tensor, Draw]:
    """PTI (arXiv 2106.05744): rows alone, drawn by a generator after ``STEPS`` steps towards the photograph."""
    goal, rows = refine.Goal(steps=STEPS), Inversion(found.rows)
    generator = refine.refine(model, photograph, rows, goal, refine.objective_of(True), method=weights.tune).generator
    assert generator is not None
    return found.rows, generator.synthesize


METHODS: dict[str, Method] = {
    "rows": rows_alone,
    "kept": kept,
    "carried": carried_over,
    "rules": by_rules,
    "carried-4": more_faded,
    "far-w": far_from_w,
    "refined": refined,
    "tuned": tuned,
}
MORE = 4.0
STEPS = 10
"""Steps of ``refined`` and ``tuned``: about what ten seconds on two free cores give."""
EDITS = ("age", "smile", "pose")
UNITS = {"age": "years", "smile": "log-odds", "pose": "degrees"}
CENTRE, RADII = (128.0, 138.0), (80.0, 108.0)
"""The face in an FFHQ-aligned picture of 256 pixels: x and y. It holds 97 % of the face in CelebAMask-HQ's masks."""


@dataclass(frozen=True)
class Measured:
    """One picture."""

    photograph: int
    method: str
    edit: str
    strength: float
    value: float
    """Of the attribute that the edit is of, in ``UNITS``; NaN where no face was found to measure a pose."""
    identity: float
    outside: float


def face_region() -> Tensor:
    """Where the face is in an FFHQ-aligned picture: ``[256 256]``."""
    at = torch.arange(COMPARE_SIZE) + 0.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    return ((x - CENTRE[0]) / RADII[0]) ** 2 + ((y - CENTRE[1]) / RADII[1]) ** 2 < 1


class Judges:
    """The networks that measure a picture against its photograph."""

    def __init__(self) -> None:
        self.attributes = attributes.pretrained()
        self.identity, self.lpips = Identity("dlib"), LPIPS("alex")
        self.aligner = align.FaceAligner()
        self.face = face_region()

    def value(self, edit: str, picture: Tensor) -> float:
        """What the edit is of, in ``UNITS``."""
        if edit == "pose":
            faces = self.aligner.detect(images.to_picture(picture[0]))
            return float(pose.yaw(torch.from_numpy(faces[0].landmarks)[None])[0]) if faces else float("nan")
        found = self.attributes(picture)
        return float(found.age[0] if edit == "age" else found.log_odds("happy")[0])

    def outside(self, picture: Tensor, photograph: Tensor) -> float:
        """LPIPS of all but the face."""
        return float(self.lpips(torch.where(self.face, photograph, picture), photograph))


def own_directions(generator: Generator) -> dict[str, Tensor]:
    """The bundled directions of ``EDITS``: by edit, what a unit adds to rows ``[k d]``. Raises ConfigError."""
    still, known = torch.zeros(1, generator.rows, generator.width), bundled(generator)
    if not known:
        raise ConfigError("this generator has no bundled directions: name a folder of others with --directions")
    return {name: known["yaw" if name == "pose" else name].apply(still, 1.0)[0] for name in EDITS}


def read_directions(folder: Path, generator: Generator) -> dict[str, Tensor]:
    """By edit, ``[k d]``, of length 1 in each row. Raises ConfigError and CheckpointError."""
    found = {}
    for name in EDITS:
        files = [folder / f"{name}{suffix}" for suffix in directions.SUFFIXES if (folder / f"{name}{suffix}").is_file()]
        if not files:
            raise ConfigError(f"{folder} holds no direction called {name}: name a folder of published ones")
        vector = directions.load(files[0], generator).vector
        found[name] = vector / vector.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return found


class Inverter:
    """What ``pixel2style invert`` finds: the encoder's rows, a Newton step where curvature is known, features."""

    def __init__(self, model: PSP):
        self.model, self.curvature = model, newton.bundled(model)
        self.objective = Objective(newton.LOSS)

    def __call__(self, photograph: Tensor) -> Found:
        """Of a photograph ``[1 3 h w]``."""
        with torch.no_grad():
            ws = self.model.encode(photograph)
        if self.curvature is not None:
            ws = newton.optimize(
                self.model, photograph, ws, objective=self.objective, curvature=self.curvature
            ).detach()
        with torch.no_grad():
            return Found(ws, self.model.with_detail(photograph, ws))


@dataclass(frozen=True)
class Bench:
    """What is measured, and with what."""

    model: PSP
    directions: dict[str, Tensor]
    strengths: list[float]
    methods: list[str]
    judges: Judges
    seconds: dict[str, float]
    """CPU seconds of each method before any edit, of all photographs so far."""


def measured(bench: Bench, number: int, photograph: Tensor, found: Found) -> Iterator[Measured]:
    """Every method, edit and strength of one photograph."""
    small = pooled(photograph)
    for name in bench.methods:
        start = time.process_time()
        ws, draw = METHODS[name](bench.model, photograph, found)
        bench.seconds[name] += time.process_time() - start
        with torch.no_grad():
            plain = pooled(draw(ws).float().clamp(-1, 1))
            for edit, along in bench.directions.items():
                for strength in sorted({0.0, *bench.strengths}):
                    picture = pooled(draw(ws + strength * along).float().clamp(-1, 1)) if strength else plain
                    identity = float(bench.judges.identity(picture, small))
                    outside = bench.judges.outside(picture, small)
                    yield Measured(number, name, edit, strength, bench.judges.value(edit, picture), identity, outside)


@dataclass(frozen=True)
class Mean:
    """Over photographs: the change of the attribute against no edit, identity, and LPIPS outside the face."""

    change: float
    identity: float
    outside: float
    photographs: int


def means(found: list[Measured]) -> dict[tuple[str, str, float], Mean]:
    """By edit, method and strength; photographs in which no pose was found do not count for the change."""
    by_key: dict[tuple[str, str, float], list[Measured]] = defaultdict(list)
    for one in found:
        by_key[one.edit, one.method, one.strength].append(one)
    plain = {(one.edit, one.method, one.photograph): one.value for one in found if one.strength == 0}
    result = {}
    for (edit, method, strength), many in by_key.items():
        changes = np.array([one.value - plain[edit, method, one.photograph] for one in many])
        result[edit, method, strength] = Mean(
            float(np.nanmean(changes)) if np.isfinite(changes).any() else float("nan"),
            float(np.mean([one.identity for one in many])),
            float(np.mean([one.outside for one in many])),
            len(many),
        )
    return result


def table(found: list[Measured]) -> str:
    """Markdown: one line an edit and method."""
    mean = means(found)
    strengths = sorted({one.strength for one in found})
    moved = [strength for strength in strengths if strength]
    names = list(dict.fromkeys(one.method for one in found))
    scores = "".join(f" identity at {strength:+g} |" for strength in strengths).replace("at +0", "at 0")
    head = "".join(f" change at {strength:+g} |" for strength in moved)
    lines = [f"| edit | method |{head}{scores} LPIPS outside, no edit | with edits |"]
    lines.append("|" + "---|" * (4 + len(moved) + len(strengths)))
    for edit in dict.fromkeys(one.edit for one in found):
        for name in names:
            cells = [f"{mean[edit, name, strength].change:+.1f}" for strength in moved]
            cells += [f"{mean[edit, name, strength].identity:.3f}" for strength in strengths]
            outside = np.mean([mean[edit, name, strength].outside for strength in moved])
            cells += [f"{mean[edit, name, 0.0].outside:.3f}", f"{outside:.3f}"]
            lines.append(f"| {edit}, {UNITS[edit]} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured_before(file: Path | None) -> list[Measured]:
    """What an interrupted run of the same command has left in its ``--json``."""
    return [Measured(**one) for one in json.loads(file.read_text())] if file and file.exists() else []


def run(arguments: argparse.Namespace) -> None:
    for name in arguments.methods:
        if name not in METHODS:
            raise ConfigError(f"no method is called {name!r}: choose some of {', '.join(METHODS)}")
    model = checkpoints.load(arguments.model)
    folder, generator = arguments.directions, model.generator
    along = read_directions(folder, generator) if folder else own_directions(generator)
    photos = photographs.spaced(photographs.read(arguments.data), arguments.photographs)
    bench = Bench(model, along, arguments.strengths, arguments.methods, Judges(), defaultdict(float))
    invert, found = Inverter(model), measured_before(arguments.json)
    done = {one.photograph for one in found}
    for number, photo in enumerate(photos):
        if number in done:
            continue
        photograph = images.to_tensor(photo)[None]
        found += measured(bench, number, photograph, invert(photograph))
        print(f"\r{number + 1} of {len(photos)}", end="", file=sys.stderr, flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(one) for one in found]) + "\n")
    times = ", ".join(f"{name} {total / len(photos):.1f} s" for name, total in bench.seconds.items())
    print(f"\n{table(found)}\n\n{len(photos)} photographs; before edits: {times}.\n")
    print(photographs.circumstances(arguments.threads))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders or tars of aligned photographs")
    parser.add_argument("--directions", type=Path, help="folder of age, smile and pose (default: bundled ones)")
    parser.add_argument("--model", default="faces", help="bundled name or file")
    parser.add_argument("--photographs", metavar="N", type=int, help="as many, evenly spaced (default: all)")
    parser.add_argument("--strengths", metavar="S", type=float, nargs="+", default=[-3.0, -1.5, 1.5, 3.0])
    parser.add_argument(
        "--methods", metavar="M", nargs="+", default=["rows", "kept", "carried"], help=", ".join(METHODS)
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--json",
        type=Path,
        help="write the measurement of every picture here, too; the same command again goes on from it",
    )
    return photographs.exit_code(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
