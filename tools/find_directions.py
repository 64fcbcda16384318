"""Find the bundled directions: regression of W on attributes of generated faces, then combined by measured effects.

    python tools/find_directions.py --samples 1000 --out src/pixel2style/assets/directions_ffhq.safetensors

1. Faces are drawn from W (truncation .8) at 256 pixels by the generator's small head and scored (``face_scores``).
2. The linear regression of ``w`` on all scores at once gives vectors that change one score while the others stay on
   average; of ``RANGES`` those rows are kept in which the wanted change has the largest share. ``--start FILE`` takes
   vectors and rows of a file of directions instead, where it has them.
3. Each vector, and the first axes of W, moves some of the faces in coarse, medium and fine rows alone. What that
   changes in every score and in identity (MobileFaceNet's) is known then for each face, and least squares find the
   combination that changes one score only (``combined``), with weights chosen on faces left out (``combination``).
4. On other faces (``face_scores.Faces``) the length is set so that a unit changes the score by one standard deviation,
   and vectors before and after step 3 are measured, identity by dlib's network, which was not fitted to. The better
   one (``is_better``) is kept.

Scores, effects and each finished direction are kept in ``--state``: the same command again continues. Directions of
``--start`` that were not found anew are written as they are.
"""

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from face_scores import UNITS, Faces, Scorer, drawn
from pixel2style import assets, checkpoints, files, runtime
from pixel2style.editing import directions, find
from pixel2style.editing.directions import Direction
from pixel2style.editing.latents import move
from pixel2style.formats import safetensors
from pixel2style.generators import Generator, sampling
from pixel2style.metrics.identity import Identity

RANGES = ("0-", "0-3", "2-6", "3-8", "8-")
TRUNCATION = 0.8
TRIED = 2
"""Seed of the faces on which directions are measured."""
GROUPS = ("0-3", "4-7", "8-")
"""Rows that are moved together."""
AXES = 6
"""Principal axes of W that are combined beside the regression's vectors."""
WANTED, MEANS, OTHERS, EVEN = 30.0, 8.0, 2.0, 0.3
"""Weights in ``combined`` of the wanted change, of mean and of single changes of others, of an uneven wanted one."""
SAMES, RIDGES = (1.0, 4.0), (0.02, 0.1, 0.5)
"""Weights of identity and of the coefficients that are tried."""

LIMITS = {"lipstick": "0-10"}
"""Rows of directions that are limited: finer ones tint the whole picture, which no score sees."""
NOISE = {"unwanted": 0.02, "unwanted_mean": 0.01, "identity": 0.001, "wanted": 0.05}
"""By how much figures may be worse by chance."""


@dataclass(frozen=True)
class Pool:
    """Generated faces: latents ``w`` ``[n d]``, their scores ``[n a]`` and identity vectors ``[n i]``."""

    w: Tensor
    scores: Tensor
    features: Tensor


def latents(generator: Generator, count: int) -> Tensor:
    """``w`` ``[n d]`` of the faces of pools: more of them begin with the same ones."""
    return sampling.draw(generator, count, torch.Generator().manual_seed(1), generator.w_avg, TRUNCATION)


@torch.no_grad()
def scored(generator: Generator, count: int, cache: Path, scorer: Scorer, identity: Identity) -> Pool:
    """``count`` faces; those in ``cache`` are not drawn again."""
    w = latents(generator, count)
    blank = torch.zeros(1, 3, 256, 256)
    found = {"scores": scorer.table(blank)[:0], "features": identity.features(blank)[:0]}
    found = safetensors.read(cache) if cache.is_file() else found
    while (done := len(found["scores"])) < count:
        pictures = drawn(generator, w[done : done + 20])
        found["scores"] = torch.cat([found["scores"], scorer.table(pictures)])
        found["features"] = torch.cat([found["features"], identity.features(pictures)])
        if len(found["scores"]) % 200 == 0 or len(found["scores"]) >= count:
            safetensors.write(found, cache)
            print(f"{len(found['scores'])} of {count} faces scored", flush=True)
    return Pool(w, found["scores"][:count], found["features"][:count])


def elements(generator: Generator, vectors: Tensor) -> Tensor:
    """Moves ``[e k d]`` to combine: ``vectors`` ``[m k d]`` and a deviation along ``AXES`` axes of W, in each group."""
    axes, along = find.ganspace(generator, AXES, samples=20_000)
    many = torch.cat([vectors, (axes * along[:, None])[:, None].expand(-1, generator.rows, -1)])
    blank = torch.zeros(1, generator.rows, generator.width)
    return torch.cat([move(blank, vector, 1.0, rows) for rows in GROUPS for vector in many])


@torch.no_grad()
def effects(
    generator: Generator, scorer: Scorer, identity: Identity, pool: Pool, moves: Tensor, faces: int, cache: Path
) -> tuple[Tensor, Tensor]:
    """What each of ``moves`` ``[e k d]`` changes in the first ``faces`` of the pool, moved there or back by turns.

    Of scores in their deviations, ``[e n a]``, and of identity vectors, ``[e n i]``. Those in ``cache`` are kept.
    """
    found = safetensors.read(cache) if cache.is_file() else {}
    deviations, began = pool.scores.std(0), time.perf_counter()
    for number in range(len(found.get("scores", ())), len(moves)):
        signs = torch.tensor([1.0 if (face + number) % 2 else -1.0 for face in range(faces)])
        ws = pool.w[:faces, None] + signs[:, None, None] * moves[number]
        pictures = drawn(generator, ws)
        scores = (scorer.table(pictures) - pool.scores[:faces]) / deviations * signs[:, None]
        features = (identity.features(pictures) - pool.features[:faces]) * signs[:, None]
        for key, own in (("scores", scores[None]), ("features", features[None])):
            found[key] = torch.cat([found[key], own]) if key in found else own
        safetensors.write(found, cache)
        if (number + 1) % 10 == 0:
            print(f"{number + 1} of {len(moves)} moves, {time.perf_counter() - began:.0f} s", flush=True)
    return found["scores"], found["features"]


def combined(scores: Tensor, features: Tensor, index: int, same: float, ridge: float) -> Tensor:
    """Coefficients ``[e]`` of moves with ``effects`` ``[e n a]`` and ``[e n i]``: one deviation of score ``index``.

    Least squares, as if effects added up: the mean wanted change is to be 1; other changes (face by face and on
    average), differences of the wanted one between faces, changes of identity vectors, and coefficients small.
    """
    count, faces, total = scores.shape
    wanted, others = scores[:, :, index], torch.cat([scores[:, :, :index], scores[:, :, index + 1 :]], 2)
    parts = (
        (wanted.mean(1, keepdim=True), WANTED),
        (others.mean(1), MEANS / (total - 1)),
        (others.flatten(1), OTHERS / (total - 1) / faces),
        (wanted - wanted.mean(1, keepdim=True), EVEN / faces),
        (features.flatten(1), same / faces),
        (torch.eye(count), ridge),
    )
    a = torch.cat([part.double() * weight**0.5 for part, weight in parts], 1)
    b = torch.zeros(a.shape[1], dtype=torch.float64)
    b[0] = WANTED**0.5
    found: Tensor = torch.linalg.lstsq(a.T, b).solution.float()
    return found


def combination(scores: Tensor, features: Tensor, index: int) -> tuple[Tensor, float, float]:
    """Coefficients as of ``combined``, with those weights of identity and coefficients that lose least.

    What is lost, by effects on faces that were left out, two at a time: mean other changes and identity, per wanted
    change. Divided by the wanted change of these faces.
    """
    faces = scores.shape[1]
    lost, scale = {}, {}
    for same, ridge in itertools.product(SAMES, RIDGES):
        changes, differs = [], []
        for first in range(0, faces, 2):
            out = torch.arange(faces) // 2 == first // 2
            own = combined(scores[:, ~out], features[:, ~out], index, same, ridge)
            changes.append(torch.einsum("e,ena->na", own, scores[:, out]))
            differs.append(torch.einsum("e,eni->ni", own, features[:, out]).square().sum(1))
        change, differ = torch.cat(changes).mean(0), float(torch.cat(differs).mean()) / 2
        scale[same, ridge] = wanted = max(0.1, float(change[index]))
        change[index] = 0
        lost[same, ridge] = (float(change.square().sum()) + differ) / wanted**2
    same, ridge = min(lost, key=lost.__getitem__)
    return combined(scores, features, index, same, ridge) / scale[same, ridge], same, ridge


def best_rows(trial: Faces, index: int, vector: Tensor, few: int) -> str:
    """That of ``RANGES`` in which the wanted change of ``few`` faces has the largest share."""
    shares = {}
    for rows in RANGES:
        change, _ = trial.both(vector, rows, few)
        wanted = float(change[index])
        change[index] = 0
        shares[rows] = wanted / (wanted + float(change.abs().amax())) if wanted > 0.15 else 0.0
    return max(shares, key=shares.__getitem__)


def measured(trial: Faces, index: int, vector: Tensor, rows: str) -> tuple[Tensor, dict[str, float]]:
    """The direction scaled to a unit of one deviation, and its figures."""
    change, same = trial.both(vector, rows)
    for _ in range(2):  # the second time near the right length
        if abs(float(change[index]) - 1) < 0.1:
            break
        vector = vector / max(0.1, float(change[index]))
        change, same = trial.both(vector, rows)
    others = torch.cat([change[:index], change[index + 1 :]]).abs()
    figures = {
        "wanted": float(change[index]),
        "unwanted": float(others.amax()),
        "unwanted_mean": float(others.mean()),
        "identity": same,
        "deviation": float(trial.deviations[index]),
    }
    return vector, {key: round(value, 4) for key, value in figures.items()}


def is_better(new: dict[str, float], old: dict[str, float], largest: float = NOISE["unwanted"]) -> bool:
    """Whether a direction changes less else and keeps as much identity at one deviation, but for ``NOISE``.

    The ``largest`` change of another score may grow by that much.
    """
    noise = NOISE | {"unwanted": largest}
    worse = {key: new[key] - old[key] for key in ("unwanted", "unwanted_mean")} | {
        "identity": old["identity"] - new["identity"],
        "wanted": abs(new["wanted"] - 1) - max(0.1, abs(old["wanted"] - 1)),
    }
    return all(worse[key] <= noise[key] for key in noise) and (
        worse["unwanted_mean"] / old["unwanted_mean"] + worse["identity"] / (1 - old["identity"]) < 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--moved", type=int, default=14, help="faces on which moves are tried")
    parser.add_argument("--faces", type=int, default=24, help="other faces, on which directions are measured")
    parser.add_argument("--few", type=int, default=8, help="of them, on which rows are chosen")
    parser.add_argument("--names", nargs="+", help="directions to find; all scores by default")
    parser.add_argument("--leave-out", nargs="*", default=["surprise", "roll"], help="scores that are only held")
    parser.add_argument("--start", type=Path, help="a file of directions to start from")
    parser.add_argument("--state", type=Path, default=Path("directions"), help="a folder of scores and directions")
    parser.add_argument("--out", type=Path, default=Path("directions_ffhq.safetensors"))
    options = parser.parse_args()
    runtime.keep_freed_memory()
    files.make_folder(options.state)
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    scorer, identity = Scorer(), Identity("mobilefacenet")
    pool = scored(generator, options.samples, options.state / "scores.safetensors", scorer, identity)
    started = directions.load_many(options.start, generator) if options.start else {}
    vectors = find.conditional(pool.w, pool.scores)[:, None].repeat(1, generator.rows, 1)
    for name, own in started.items():
        vectors[scorer.names.index(name)] = own.vector
    moves = elements(generator, vectors)
    changed = effects(generator, scorer, identity, pool, moves, options.moved, options.state / "effects.safetensors")
    trial = Faces(generator, options.faces, TRIED, scorer, pool.scores.std(0))
    for index, name in enumerate(scorer.names):
        kept = options.state / f"{name}.safetensors"
        if name in options.leave_out or kept.is_file() or name not in (options.names or scorer.names):
            continue
        if name in LIMITS:
            rows = LIMITS[name]
        else:
            rows = started[name].rows if name in started else best_rows(trial, index, vectors[index], options.few)
        one, old = measured(trial, index, vectors[index], rows)
        coefficients, same, ridge = combination(*changed, index)
        most = LIMITS.get(name, "0-")
        many, new = measured(trial, index, torch.einsum("e,ekd->kd", coefficients, moves), most)
        print(f"{name}\n  regression {old}\n  combined   {new}, weights {same} and {ridge}", flush=True)
        facts = {"one": {"rows": rows, "figures": old}, "many": {"rows": most, "figures": new}}
        safetensors.write({"one": _short(one).half(), "many": many.half()}, kept, {"facts": json.dumps(facts)})
    write(finished(options.state, scorer.names, started), options.out, generator)


def finished(state: Path, names: Sequence[str], started: Mapping[str, Direction]) -> dict[str, Direction]:
    """The better ones of directions in ``state``, and others that were ``started`` from."""
    found = {}
    for name in names:
        if (state / f"{name}.safetensors").is_file():
            facts = json.loads(safetensors.read_metadata(state / f"{name}.safetensors")["facts"])
            better = "many" if is_better(facts["many"]["figures"], facts["one"]["figures"]) else "one"
            rows, figures = facts[better]["rows"], facts[better]["figures"]
            unit = f"{figures['deviation']:.1f} {UNITS[name]}" if name in UNITS else "one standard deviation"
            vector = safetensors.read(state / f"{name}.safetensors")[better].float()
            found[name] = Direction(name, vector, rows, unit=unit, figures=figures)
        elif name in started:
            found[name] = started[name]
    return found


def write(found: Mapping[str, Direction], out: Path, generator: Generator) -> None:
    """Directions as one file; prints a table."""
    stored, told = {}, {}
    for name, one in found.items():
        stored[name] = _short(one.vector).half()
        told[name] = {"rows": one.rows, "unit": one.unit, "figures": dict(one.figures)}
        print(f"| `{name}` | {one.rows} | {one.unit} | {one.figures['wanted']:.2f} | {one.figures['unwanted']:.2f} | "
              f"{one.figures['identity']:.3f} |")  # fmt: skip
    metadata = {"generator": directions.id_of(generator), "directions": json.dumps(told)}
    files.make_folder(out.parent)
    safetensors.write(stored, out, metadata)


def _short(vector: Tensor) -> Tensor:
    """``[k d]``, or ``[d]`` where all rows are equal."""
    return vector if vector.ndim == 1 or bool((vector != vector[0]).any()) else vector[0]


if __name__ == "__main__":
    main()
