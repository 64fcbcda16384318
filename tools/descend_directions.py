"""Improve bundled directions by gradient descent on what they change otherwise, at a fixed wanted change.

    python tools/descend_directions.py --names smile yaw --state directions --out directions_ffhq.safetensors

Generated faces (truncation .8) are moved by .5 to 2 units there or back and drawn at 256 pixels by the generator's
small head. Descended on are one minus identity (MobileFaceNet's cosine), squared changes of all other scores
(``face_scores``), face by face and on average of the last steps, and the squared length of the vector along W's axes,
in their deviations; the wanted change per unit is held at one standard deviation by a multiplier that rises while the
change is smaller and falls while it is larger. A direction is one vector in each of ``GROUPS`` of rows, and begins as
the bundled one, or else as the regression of W on all scores at once.

Before and after are then measured on other faces, identity by dlib's network, which was not descended on, and the
better one is written (``find_directions.is_better``). Everything is kept in ``--state``: the same command continues.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from face_scores import Faces, Scorer
from find_directions import TRIED, Pool, is_better, measured, scored, write
from pixel2style import assets, checkpoints, files, runtime
from pixel2style.editing import find
from pixel2style.editing.directions import Direction
from pixel2style.editing.latents import parse_rows
from pixel2style.formats import safetensors
from pixel2style.generators import Generator
from pixel2style.inference import edit
from pixel2style.metrics.identity import Identity

GROUPS = ("0-1", "2-3", "4-5", "6-7")
"""Rows that are moved alike. Later ones would change contrast and tint the picture, which no score sees."""
RANGE = "0-7"
"""All of them."""
AXES = 256
"""Principal axes of W that a direction may use."""
LEAST, MOST = 0.5, 2.0
"""Units by which faces are moved."""
SAME, OTHERS, LENGTH = 4.0, 2.0, 0.008
"""Weights of identity, other scores face by face, and length."""
REMEMBERED = 0.97
"""Share of the average of other changes that a step leaves."""
HOLD = 0.05
"""By how much the multiplier of the wanted change follows what is missing."""
LARGEST = 0.05
"""By how much the largest change of another score may grow where all others and identity gain."""
SAVED_EVERY = 10


class Space:
    """Vectors of the generator by few numbers: ``[g m]`` along the axes of W, in deviations, for groups of rows."""

    def __init__(self, generator: Generator):
        axes, along = find.ganspace(generator, AXES, samples=50_000)
        self.axes = axes * along[:, None].clamp_min(0.02 * float(along[0]))
        self.groups = [parse_rows(rows, generator.rows) for rows in GROUPS]
        self.rows = generator.rows

    def vector(self, numbers: Tensor) -> Tensor:
        """``[g m] -> [k d]``."""
        places = torch.zeros(self.rows, len(self.groups))
        for group, rows in enumerate(self.groups):
            places[rows, group] = 1.0
        return places @ (numbers @ self.axes)

    def numbers(self, direction: Direction) -> Tensor:
        """``[g m]`` of what a direction adds on average in each group: ``vector`` is near it."""
        own = torch.zeros(self.rows, direction.vector.shape[1])
        chosen = parse_rows(direction.rows or slice(None), self.rows)
        own[chosen] = direction.vector[chosen]
        means = torch.stack([own[rows].mean(0) for rows in self.groups])
        found: Tensor = torch.linalg.lstsq(self.axes.T, means.T).solution.T.contiguous()
        return found


class Descent:
    """The state of one direction's descent, kept in a file."""

    def __init__(self, start: Tensor, others: int, path: Path):
        self.path = path
        state = safetensors.read(path) if path.is_file() else {}
        self.numbers = state.get("numbers", start).clone().requires_grad_()
        self.average = state.get("average", start).clone()
        self.optimizer = torch.optim.Adam([self.numbers], lr=0.01, betas=(0.9, 0.99))
        self.step = int(state.get("step", torch.zeros(())))
        self.multiplier = float(state.get("multiplier", torch.tensor(1.0)))
        self.drift = state.get("drift", torch.zeros(others))
        if state:
            self.optimizer.state[self.numbers] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": state["first"],
                "exp_avg_sq": state["second"],
            }

    def save(self) -> None:
        """Write the state."""
        moments = self.optimizer.state[self.numbers]
        state = {
            "numbers": self.numbers.detach(),
            "average": self.average,
            "step": torch.tensor(self.step),
            "multiplier": torch.tensor(self.multiplier),
            "drift": self.drift,
            "first": moments["exp_avg"],
            "second": moments["exp_avg_sq"],
        }
        safetensors.write({key: value.contiguous() for key, value in state.items()}, self.path)


def descend(
    generator: Generator, pool: Pool, scorer: Scorer, identity: Identity, space: Space, name: str, start: Tensor,
    steps: int, batch: int, weight: float, state: Path,
) -> Tensor:  # fmt: skip
    """The direction ``[k d]`` after ``steps``: a moving average of the last ones."""
    path, index = state / f"{name}.descent.safetensors", scorer.names.index(name)
    run = Descent(start, len(scorer.names) - 1, path)
    deviations, began, shown = pool.scores.std(0), time.perf_counter(), torch.zeros(4)
    while run.step < steps:
        source = torch.Generator().manual_seed(1000 + run.step)
        chosen = torch.randperm(len(pool.w), generator=source)[:batch]
        amounts = LEAST + (MOST - LEAST) * torch.rand(batch, generator=source)
        amounts[1::2] *= -1
        for group in run.optimizer.param_groups:
            group["lr"] = 0.01 * max(0.05, 1 - run.step / steps)
        ws = pool.w[chosen, None] + amounts[:, None, None] * space.vector(run.numbers)
        drawn = generator.synthesize(ws, 256).clamp(-1, 1)
        change = (scorer.table(drawn) - pool.scores[chosen]) / deviations
        wanted = (change[:, index] / amounts).mean()
        change = torch.cat([change[:, :index], change[:, index + 1 :]], 1)
        others = (change.square().mean(1) / amounts.square()).mean()
        drift = (change / amounts[:, None]).mean(0)
        run.drift = REMEMBERED * run.drift + (1 - REMEMBERED) * drift.detach()
        means = 2 * (run.drift * drift).sum()  # the gradient of the squared average
        differs = ((1 - identity.similarity(identity.features(drawn), pool.features[chosen])) / amounts.abs()).mean()
        length = run.numbers.square().sum()
        loss = SAME * differs + OTHERS * others + weight * means + LENGTH * length - run.multiplier * wanted
        run.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        run.multiplier = max(0.0, run.multiplier + HOLD * (1 - float(wanted)))
        run.step += 1
        run.average.lerp_(run.numbers.detach(), 1 - min(0.98, run.step / (run.step + 10)))
        shown += torch.stack([wanted, others, differs, length]).detach()
        if run.step % SAVED_EVERY == 0 or run.step == steps:
            run.save()
            wanted, others, differs, length = (shown / SAVED_EVERY).tolist()
            print(
                f"{name} {run.step}: wanted {wanted:.2f}, others {others:.4f}, differs {differs:.4f}, length "
                f"{length:.2f}, multiplier {run.multiplier:.2f}, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
            shown = torch.zeros(4)
    return space.vector(run.average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", required=True, help="bundled directions to improve")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--means", type=float, default=1.5, help="weight of the average changes of others")
    parser.add_argument("--samples", type=int, default=400, help="faces that are moved")
    parser.add_argument("--faces", type=int, default=24, help="other faces, on which directions are measured")
    parser.add_argument("--state", type=Path, default=Path("directions"), help="a folder of scores and states")
    parser.add_argument("--out", type=Path, default=Path("directions_ffhq.safetensors"))
    given = parser.parse_args()
    runtime.keep_freed_memory()
    files.make_folder(given.state)
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024")).requires_grad_(False)
    scorer, identity, space = Scorer(), Identity("mobilefacenet"), Space(generator)
    pool = scored(generator, given.samples, given.state / "scores.safetensors", scorer, identity)
    bundled = edit.bundled(generator)
    trial: Faces | None = None
    slopes = find.conditional(pool.w, pool.scores)
    for name in given.names:
        vector = slopes[scorer.names.index(name)].expand(generator.rows, -1)
        old = bundled.get(name, Direction(name, vector, RANGE, unit="one standard deviation"))
        start = space.numbers(old)
        vector = descend(
            generator, pool, scorer, identity, space, name, start, given.steps, given.batch, given.means, given.state
        ).detach()
        trial = trial or Faces(generator, given.faces, TRIED, scorer, pool.scores.std(0))
        index = scorer.names.index(name)
        vector, figures = measured(trial, index, vector, RANGE)
        _, before = measured(trial, index, old.vector, old.rows or "0-")
        better = is_better(figures, before, LARGEST)
        print(
            f"{name}\n  before    {before}\n  descended {figures}: {'better' if better else 'not better'}", flush=True
        )
        if better:
            bundled[name] = replace(old, vector=vector, rows=RANGE, figures=figures)
    write(bundled, given.out, generator)


if __name__ == "__main__":
    main()
