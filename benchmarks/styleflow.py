"""A conditional flow over W beside the linear directions, by the figure and on the faces of `directions.py`.

    python benchmarks/styleflow.py --samples 1800 --faces 60 --state styleflow

A flow (StyleFlow, arXiv 2008.02401) is a differential equation that carries noise at time 0 to latents ``w`` at time 1,
given all attributes of the face. An edit carries ``w`` back to noise under the face's own attributes, and forth again
under attributes of which one is changed. StyleFlow maximises likelihood, which needs the divergence and a solution of
the equation in every step; here the velocity is learned by flow matching (arXiv 2210.02747), which chooses among the
same flows and needs one evaluation of the network a step.

1. ``--samples`` faces are drawn (truncation .8) and scored, as by `tools/find_directions.py`, in ``--state``.
2. A reader, a network from ``w`` to scores, is fitted to them. It gives scores to as many latents as wanted.
3. Two flows are trained on the leading axes of W, in their deviations: ``flow`` on new latents with scores that were
   read, ``flow, measured`` on the scored faces. They edit under what the reader says of ``w``, and under the face's
   measured scores.
4. Moves of each are scaled to change the attribute of ``SCALED`` faces by one deviation, and measured beside the
   bundled direction (``bundled``) and the linear regression of ``w`` on the same measured scores (``regression``), by
   default in the rows of the bundled direction. ``--rows 0-`` moves all rows. Changes up and down are shown apart.

Axes: ``b`` latents or faces, ``d`` width of a row, ``m`` axes of W, ``a`` scores, ``k`` rows.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from directions import SEED, one_way
from pixel2style import assets, checkpoints, files, runtime
from pixel2style.editing import find
from pixel2style.editing.latents import mix, move
from pixel2style.formats import safetensors
from pixel2style.generators import Generator, sampling
from pixel2style.inference import edit
from pixel2style.metrics.identity import Identity

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))
from face_scores import Faces, Scorer
from find_directions import TRUNCATION, Pool, scored

NAMES = ("smile", "yaw", "age", "masculine", "eyes-open", "glasses")
AXES = 256
"""Principal axes of W that flows change; what lies outside them stays."""
WIDTH, BLOCKS, FREQUENCIES = 384, 3, 8
HELD_OUT = 10
"""Every so many-th scored face is not trained on."""
BATCH = 256
PATIENCE = 500
"""Steps without a better loss on held-out faces after which training ends."""
SOLVER_STEPS = 20
SCALED = 20
"""Faces by whose change moves are scaled."""
STRETCHED = 2.0
"""Largest scale: a flow that is asked for far more than was seen in training draws no face."""

Mover = Callable[[float], Tensor]
"""Rows ``[b k d]`` of all faces, edited by an amount."""


class Block(nn.Module):
    """A residual layer whose input is scaled and shifted, and whose output is gated, by the condition: ``[b n]``."""

    def __init__(self, width: int):
        super().__init__()
        self.condition = nn.Linear(width, 3 * width)
        self.into, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``x`` plus its change."""
        scale, shift, gate = self.condition(condition).chunk(3, 1)
        inside = functional.silu(self.into(functional.layer_norm(x, x.shape[1:]) * (1 + scale) + shift))
        return x + torch.sigmoid(gate) * self.out(inside)


class Velocity(nn.Module):
    """Velocity ``[b m]`` at ``x`` ``[b m]`` and time ``[b]``, given scores ``[b a]`` in their deviations.

    What is learned is the difference to the velocity between two normal distributions, which is known.
    """

    def __init__(self, axes: int, scores: int):
        super().__init__()
        self.into, self.out = nn.Linear(axes, WIDTH), nn.Linear(WIDTH, axes)
        self.condition = nn.Sequential(
            nn.Linear(scores + 2 * FREQUENCIES, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()
        )
        self.blocks = nn.ModuleList([Block(WIDTH) for _ in range(BLOCKS)])
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor, scores: Tensor) -> Tensor:
        """The velocity."""
        angles = time[:, None] * torch.pi * torch.arange(1, FREQUENCIES + 1)
        condition = self.condition(torch.cat([scores, angles.sin(), angles.cos()], 1))
        hidden = self.into(x)
        for block in self.blocks:
            hidden = block(hidden, condition)
        known = (2 * time - 1) / (time.square() + (1 - time).square())
        found: Tensor = known[:, None] * x + self.out(hidden)
        return found


class Reader(nn.Module):
    """Scores ``[b a]``, in their deviations, of latents ``[b m]`` in units of the largest deviation."""

    def __init__(self, axes: int, scores: int):
        super().__init__()
        self.linear = nn.Linear(axes, scores)
        self.curved = nn.Sequential(nn.Linear(axes, WIDTH), nn.SiLU(), nn.Dropout(0.3), nn.Linear(WIDTH, scores))

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        found: Tensor = self.linear(x) + self.curved(x)
        return found


class Space:
    """Latents ``w`` ``[b d]`` as ``[b m]`` along the leading axes of W."""

    def __init__(self, generator: Generator):
        self.axes, along = find.ganspace(generator, AXES, samples=50_000)
        self.along = along * TRUNCATION
        self.mean = generator.w_avg

    def numbers(self, w: Tensor) -> Tensor:
        """In deviations of W after truncation."""
        return (w - self.mean) @ self.axes.T / self.along

    def lengths(self, w: Tensor) -> Tensor:
        """In units of the largest deviation."""
        return self.numbers(w) * self.along / self.along[0]

    def change(self, numbers: Tensor) -> Tensor:
        """``[b m] -> [b d]``: a difference of latents."""
        return (numbers * self.along) @ self.axes


def carried(velocity: Velocity, x: Tensor, scores: Tensor, begin: float, end: float) -> Tensor:
    """``x`` ``[b m]`` carried from one time to another by ``SOLVER_STEPS`` steps of Runge and Kutta's method."""
    step = (end - begin) / SOLVER_STEPS

    def at(point: Tensor, when: float) -> Tensor:
        return velocity(point, torch.full((len(point),), when), scores)

    for number in range(SOLVER_STEPS):
        now = begin + number * step
        first = at(x, now)
        second = at(x + step / 2 * first, now + step / 2)
        third = at(x + step / 2 * second, now + step / 2)
        fourth = at(x + step * third, now + step)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
    return x


def matching_loss(velocity: Velocity, x: Tensor, scores: Tensor, rng: torch.Generator) -> Tensor:
    """Mean squared error of the velocity on straight lines from noise to ``x`` (arXiv 2210.02747, equation 23)."""
    noise, time = torch.randn(x.shape, generator=rng), torch.rand(len(x), generator=rng)
    between = torch.lerp(noise, x, time[:, None])
    return (velocity(between, time, scores) - (x - noise)).square().mean()


def fitted_reader(x: Tensor, scores: Tensor, steps: int) -> Reader:
    """The reader, with least squares; prints the explained share of the variance on faces held out."""
    torch.manual_seed(0)
    reader, rng = Reader(x.shape[1], scores.shape[1]), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=0.1)
    held = torch.arange(len(x)) % HELD_OUT == 0
    own, targets = x[~held], scores[~held]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        chosen = torch.randint(len(own), (256,), generator=rng)
        optimizer.zero_grad()
        (reader(own[chosen]) - targets[chosen]).square().mean().backward()
        optimizer.step()
    reader.eval().requires_grad_(False)
    missing = (reader(x[held]) - scores[held]).square().mean(0) / scores[held].var(0)
    print(f"reader: explains {', '.join(f'{1 - float(one):.2f}' for one in missing)}", flush=True)
    return reader


def fitted_flow(
    batches: Iterator[tuple[Tensor, Tensor]], held: tuple[Tensor, Tensor], steps: int, name: str
) -> Velocity:
    """A flow trained on ``steps`` of ``batches``, of latents and scores; averaged weights, those best on ``held``."""
    torch.manual_seed(0)
    velocity, average = (Velocity(held[0].shape[1], held[1].shape[1]) for _ in range(2))
    average.load_state_dict(velocity.state_dict())
    optimizer = torch.optim.AdamW(velocity.parameters(), lr=1e-3, weight_decay=0.01)
    rng, began = torch.Generator().manual_seed(2), time.perf_counter()
    best, best_step, kept, trained = float("inf"), 0, velocity.state_dict(), 0.0
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, step / 100) * (1 - (step - 1) / steps)
        loss = matching_loss(velocity, *next(batches), rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trained += float(loss.detach())
        with torch.no_grad():
            for one, own in zip(average.parameters(), velocity.parameters(), strict=True):
                one.lerp_(own, max(0.01, 1 / step))
        if step % 100 == 0:
            with torch.no_grad():
                repeated = [one.repeat(10, 1) for one in held]
                tried = float(matching_loss(average, *repeated, torch.Generator().manual_seed(3)))
            print(
                f"{name} {step}: loss {trained / 100:.4f}, held out {tried:.4f}, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
            trained = 0.0
            if tried < best:
                best, best_step = tried, step
                kept = {key: value.clone() for key, value in average.state_dict().items()}
            if step - best_step >= PATIENCE:
                break
    velocity.load_state_dict(kept)
    return velocity.eval().requires_grad_(False)


def new_latents(generator: Generator, space: Space, reader: Reader) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of new latents and the scores that are read of them."""
    rng = torch.Generator().manual_seed(4)
    while True:
        with torch.no_grad():
            w = sampling.draw(generator, BATCH, rng, generator.w_avg, TRUNCATION)
            batch = space.numbers(w), reader(space.lengths(w))
        yield batch


def scored_latents(x: Tensor, scores: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the same latents and scores, in random order."""
    rng = torch.Generator().manual_seed(5)
    while True:
        chosen = torch.randint(len(x), (BATCH,), generator=rng)
        yield x[chosen], scores[chosen]


class Flows:
    """The reader and both flows, trained on scored faces or read from a file in ``state``."""

    def __init__(self, generator: Generator, pool: Pool, steps: int, state: Path):
        self.space = Space(generator)
        self.mean, self.deviations = pool.scores.mean(0), pool.scores.std(0)
        x, scores = self.space.numbers(pool.w), self.standard(pool.scores)
        kind = f"{len(x)}-{steps}"
        self.reader = self._kept(
            state / f"reader-{kind}.safetensors",
            Reader(AXES, scores.shape[1]),
            lambda: fitted_reader(self.space.lengths(pool.w), scores, steps),
        )
        held = torch.arange(len(x)) % HELD_OUT == 0
        read = self.reader(self.space.lengths(pool.w))
        batches = {
            "flow": (new_latents(generator, self.space, self.reader), read),
            "flow, measured": (scored_latents(x[~held], scores[~held]), scores),
        }
        self.velocities = {
            name: self._kept(
                state / f"{name.replace(', ', '-')}-{kind}.safetensors",
                Velocity(AXES, scores.shape[1]),
                lambda name=name, own=own, tried=tried: fitted_flow(own, (x[held], tried[held]), steps, name),
            )
            for name, (own, tried) in batches.items()
        }

    def standard(self, scores: Tensor) -> Tensor:
        """Scores ``[b a]`` in their deviations."""
        return (scores - self.mean) / self.deviations

    @staticmethod
    def _kept(path: Path, blank: nn.Module, fit: Callable[[], nn.Module]) -> nn.Module:
        if path.is_file():
            blank.load_state_dict(safetensors.read(path))
            return blank.eval().requires_grad_(False)
        fitted = fit()
        safetensors.write({key: value.contiguous() for key, value in fitted.state_dict().items()}, path)
        return fitted

    @torch.no_grad()
    def noise(self, name: str, w: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """What a flow carries to ``w`` ``[b d]``: noise ``[b m]`` and the scores ``[b a]`` it is carried under."""
        scores = self.standard(measured) if name == "flow, measured" else self.reader(self.space.lengths(w))
        return carried(self.velocities[name], self.space.numbers(w), scores, 1, 0), scores

    @torch.no_grad()
    def edited(self, name: str, w: Tensor, noise: Tensor, scores: Tensor, index: int, amount: float) -> Tensor:
        """The change ``[b d]`` of ``w`` when score ``index`` changes by ``amount`` deviations and no other does."""
        wanted = scores.clone()
        wanted[:, index] += amount
        return self.space.change(carried(self.velocities[name], noise, wanted, 0, 1) - self.space.numbers(w))


class Movers:
    """Ways to edit the faces, by name and rows: each gives a function of an amount."""

    def __init__(self, generator: Generator, flows: Flows, faces: Faces, pool: Pool):
        self.flows, self.faces, self.names = flows, faces, faces.scorer.names
        self.bundled = edit.bundled(generator)
        self.slopes = find.conditional(pool.w, pool.scores)
        self.noise = {name: flows.noise(name, faces.ws[:, 0], faces.scores) for name in flows.velocities}

    def __call__(self, way: str, name: str, rows: str | None) -> Mover:
        """How ``way`` changes score ``name``, scaled."""
        own, index, ws = self.bundled[name], self.names.index(name), self.faces.ws
        rows = rows or own.rows
        if way == "bundled":
            return lambda amount: own.apply(ws, amount)
        if way == "regression":
            return self._scaled(lambda amount: move(ws, self.slopes[index], amount, rows), index)
        noise, scores = self.noise[way]

        def moved(amount: float) -> Tensor:
            change = self.flows.edited(way, ws[:, 0], noise, scores, index, amount)
            return mix(ws, ws + change[:, None], rows)

        return self._scaled(moved, index)

    def _scaled(self, mover: Mover, index: int) -> Mover:
        """With an amount of one for a change of one deviation of the first faces, or for ``STRETCHED`` without."""
        up, down = (float(self.faces.changed(mover(amount)[:SCALED])[0][index]) for amount in (1.0, -1.0))
        scale = min(STRETCHED, 1 / max(1e-6, (up - down) / 2))
        return lambda amount: mover(amount * scale)

    def roundtrip(self, way: str) -> float:
        """Root mean squared error, in deviations of W, of latents carried to noise and back."""
        noise, scores = self.noise[way]
        w = self.faces.ws[:, 0]
        change = self.flows.edited(way, w, noise, scores, 0, 0.0)
        return float(change.square().mean().sqrt() / w.std(0).square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1800, help="faces that are scored and trained on")
    parser.add_argument("--steps", type=int, default=1500, help="of training, of each network")
    parser.add_argument("--faces", type=int, default=60, help="other faces, on which edits are measured")
    parser.add_argument("--names", nargs="+", default=NAMES, help="directions to compare with")
    parser.add_argument("--ways", nargs="+", default=("bundled", "regression", "flow", "flow, measured"))
    parser.add_argument("--rows", help="rows that regression and flows move; by default the bundled direction's own")
    parser.add_argument("--state", type=Path, default=Path("styleflow"), help="a folder of scores and networks")
    given = parser.parse_args()
    runtime.keep_freed_memory()
    files.make_folder(given.state)
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024")).requires_grad_(False)
    scorer = Scorer()
    pool = scored(generator, given.samples, given.state / "scores.safetensors", scorer, Identity("mobilefacenet"))
    flows = Flows(generator, pool, given.steps, given.state)
    if not given.faces:
        return
    movers = Movers(generator, flows, Faces(generator, given.faces, SEED, scorer), pool)
    for way in flows.velocities:
        print(f"{way}: to noise and back with an error of {movers.roundtrip(way):.1e} deviations")
    print("| direction | by | way | units | identity | others | units | identity | others |")
    print(f"|{'---|' * 9}")
    for name in given.names:
        for way in given.ways:
            mover = movers(way, name, given.rows)
            for label, sign in (("up", 1.0), ("down", -1.0)):
                cells = [
                    f"{units:.2f} | {same:.3f} | {others:.3f}"
                    for units, same, others in one_way(movers.faces, mover, name, sign)
                ]
                print(f"| `{name}` | {way} | {label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
