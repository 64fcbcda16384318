"""Find directions for a generator: from photographs with scores, from two sets of examples, from the generator alone.

Axes: ``n`` latents, ``k`` rows, ``d`` width of a row, ``a`` scores.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..editing import directions, find
from ..editing.directions import Direction
from ..editing.latents import parse_rows
from ..errors import ConfigError, Pixel2StyleError
from ..files import reason
from ..generators.base import Generator
from ..generators.sampling import draw, seeded
from ..metrics import attributes
from ..metrics.attributes import EXPRESSIONS, Attributes
from ..ops import COMPARE_SIZE
from ..photos import Photo
from .session import Session

SCORERS: Mapping[str, Callable[[Attributes], Tensor]] = {
    "age": lambda found: found.age,
    "male": lambda found: found.male,
    **{name: lambda found, name=name: found.log_odds(name) for name in EXPRESSIONS},  # type: ignore[misc]
}
"""Scores of the bundled networks, by name."""
FEWEST = 4
"""Photographs that a direction can be found from at least."""
TRUNCATION = 0.8
"""Of generated faces that are scored."""
SAMPLES = 2_000
"""Latents along which the deviation of an axis of W is measured."""


def encoded(
    session: Session, photos: Iterable[Photo], failed: Callable[[Photo, Pixel2StyleError], None]
) -> dict[Photo, Tensor]:
    """The rows ``[k d]`` of photographs; ``failed`` is told of those that have none.

    Raises ConfigError where fewer than ``FEWEST`` are left.
    """
    found = {}
    for photo, result in session.invert_many(photos, detail=False):
        if isinstance(result, Pixel2StyleError):
            failed(photo, result)
        else:
            found[photo] = result.ws
    if len(found) < FEWEST:
        raise ConfigError(f"directions are found from at least {FEWEST} photographs, and {len(found)} could be used")
    return found


@dataclass(frozen=True)
class Table:
    """Photographs and their scores, by name, in the same order."""

    files: Sequence[Path]
    scores: Mapping[str, Sequence[float]]

    @staticmethod
    def read(path: Path) -> "Table":
        """Of a CSV file: the first line names the scores, the first column files, beside it or by their whole paths.

        Raises ConfigError for a file that cannot be read so.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                table = csv.reader(file)
                numbered = [(table.line_num, line) for line in table if any(line)]
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {reason(error)}; check the name") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{path} is no CSV file in UTF-8: save the table as one") from error
        lines = [line for _, line in numbered]
        names = [name.strip() for name in lines[0][1:]] if lines else []
        if len(lines) < 2 or not all(names) or not 0 < len(set(names)) == len(names):
            raise ConfigError(
                f"{path}: its first line is to name the scores, each once, as file,age,smile, others a photograph each"
            )
        rows = [_numbers(path, number, line[1:], len(names)) for number, line in numbered[1:]]
        files = [path.parent / line[0].strip() for line in lines[1:]]
        return Table(files, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))

    def values(self, lines: Sequence[int]) -> Tensor:
        """Scores ``[n a]`` of some photographs."""
        return torch.tensor([[column[line] for column in self.scores.values()] for line in lines])


def _numbers(path: Path, line: int, words: Sequence[str], count: int) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{path}: line {line} does not have {count} numbers after the name of a file")
    return numbers


def wanted(names: Sequence[str], hold: Sequence[str]) -> list[str]:
    """The scores that directions are to be found for: those not to ``hold``.

    Raises ConfigError where there are none, or none is left, for one that is named twice, and for names to hold that
    are no scores.
    """
    if not names:
        raise ConfigError("--scores names no score: give a CSV file, or bundled ones such as age,male")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"--scores name {twice[0]} twice: leave one out")
    missing = [name for name in hold if name not in names]
    if missing:
        raise ConfigError(f"--hold {missing[0]} is none of the scores {', '.join(names)}")
    left = [name for name in names if name not in hold]
    if not left:
        raise ConfigError("--hold takes all scores, and no direction is left: hold fewer")
    return left


def drawn_and_scored(generator: Generator, names: Sequence[str], samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents ``[n d]`` of generated faces and their scores ``[n a]`` by the bundled networks. Raises ConfigError."""
    unknown = [name for name in names if name not in SCORERS]
    if unknown:
        raise ConfigError(f"--scores {unknown[0]} is no file and no bundled score: choose of {', '.join(SCORERS)}")
    if samples < FEWEST:
        raise ConfigError(f"--samples must be at least {FEWEST}, not {samples}")
    rng = seeded(seed)
    networks = attributes.pretrained().to(generator.w_avg.device)
    with torch.no_grad():
        w = draw(generator, samples, rng, generator.w_avg, TRUNCATION)
        scores = []
        for one in w:
            found = networks(generator.synthesize(one[None], min(COMPARE_SIZE, generator.size)).float().clamp(-1, 1))
            scores.append(torch.cat([SCORERS[name](found) for name in names]))
    return w.cpu(), torch.stack(scores).cpu()


def from_scores(
    ws: Tensor, scores: Tensor, names: Sequence[str], generator: Generator, method: str, rows: str = "0-",
    hold: Sequence[str] = (),
) -> Iterator[Direction]:  # fmt: skip
    """A direction for each score of latents ``[n d]`` or rows ``[n k d]``, scores ``[n a]``, but for those to ``hold``.

    ``method`` "svm": the boundary between the lower and the upper half of a score, without what it has in common with
    the boundaries of ``hold`` (InterFaceGAN, arXiv 2005.09635, 3.2); "regression": the change with one score while all
    others stay. A unit is the mean change of the latents along it with one standard deviation of the score. Raises
    ConfigError for names to hold that are no scores, and for a score that does not vary.
    """
    parse_rows(rows, generator.rows)
    wanted(names, hold)
    still = [name for name, deviation in zip(names, scores.std(0).tolist(), strict=True) if not deviation > 0]
    if still:
        raise ConfigError(f"all scores of {still[0]} are equal: leave it out")
    flat = ws.flatten(1).float()
    if method == "regression":
        found = dict(zip(names, find.conditional(flat, scores), strict=True))
    else:
        found = {name: find.boundary(flat, _upper(score, name)) for name, score in zip(names, scores.T, strict=True)}
        held = [found[name] for name in hold]
        found = {name: own if name in hold else find.conditioned(own, held) for name, own in found.items()}
    for index, name in enumerate(names):
        if name in hold:
            continue
        vector, score = found[name], scores[:, index]
        if method == "svm":
            along = (flat - flat.mean(0)) @ vector
            vector = vector * ((along * (score - score.mean())).mean() / score.std())
        source = {"svm": "linear SVM", "regression": "linear regression"}[method]
        source += f", {len(ws)} {'photographs' if ws.ndim == 3 else 'generated faces'}"
        source += f", held: {', '.join(hold)}" if hold else ""
        yield _direction(name, vector, ws, generator, rows, f"{float(score.std()):.3g} of {name}", source)


def _upper(score: Tensor, name: str) -> Tensor:
    """Which scores ``[n]`` are above the median; of two values, which have the larger."""
    above = score > score.median()
    return above if above.any() else score >= score.median()


def from_examples(with_it: Tensor, without: Tensor, name: str, generator: Generator, rows: str = "0-") -> Direction:
    """The direction from rows ``[n k d]`` without an attribute to those with it; a unit is the whole way."""
    parse_rows(rows, generator.rows)
    vector = find.difference(with_it.flatten(1), without.flatten(1))
    way = (with_it.mean(0) - without.mean(0)).norm()
    source = f"examples, {len(with_it)} with and {len(without)} without"
    return _direction(name, vector * way, with_it, generator, rows, "the difference of the examples' means", source)


def from_generator(
    generator: Generator, method: str, count: int, rows: str = "0-", samples: int = 100_000, seed: int = 0
) -> Iterator[Direction]:
    """``count`` directions that change pictures most: principal axes of W ("ganspace") or of the styles ("sefa").

    A unit is one standard deviation of W along a direction. Raises ConfigError.
    """
    parse_rows(rows, generator.rows)
    if not 1 <= count <= generator.width:
        raise ConfigError(f"--count must be from 1 to {generator.width}, not {count}")
    if method == "ganspace":
        axes, deviations = find.ganspace(generator, count, samples, seed)
    else:
        axes = find.sefa(generator, count, rows)
        with torch.no_grad():
            w = draw(generator, SAMPLES, seeded(seed), generator.w_avg)
        deviations = ((w - w.mean(0)) @ axes.T.to(w)).std(0)
    for number, (axis, deviation) in enumerate(zip(axes.cpu(), deviations.cpu(), strict=True), 1):
        name = f"{method}{number}"
        source = {"ganspace": f"GANSpace, {samples} samples", "sefa": f"SeFa of rows {rows}"}[method]
        yield _direction(name, axis * deviation, axis[None], generator, rows, "one standard deviation along it", source)


def _direction(
    name: str, vector: Tensor, ws: Tensor, generator: Generator, rows: str, unit: str, source: str
) -> Direction:
    """A flat vector as the direction of all rows, or of each if ``ws`` are rows."""
    shaped = vector.view(ws.shape[1:]) if ws.ndim == 3 else vector
    fitted = directions.fitted(shaped, generator, name)
    return Direction(name, fitted, rows, directions.id_of(generator), unit, source)
