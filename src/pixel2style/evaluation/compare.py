"""Results against originals: which files belong together, and the scores of each pair and of all.

A picture in which no face is found is counted and scored like every other.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import images, photos
from ..errors import ConfigError, ImageError, Pixel2StyleError
from ..faces.align import Face, FaceAligner
from ..files import resolved
from ..metrics import frechet
from ..metrics.lpips import how_to_get
from ..metrics.scores import METRICS, Scorer
from ..ops import pooled

COMPANIONS = (".pair", ".aligned")
"""What ``pixel2style invert`` writes beside NAME.png; NAME.aligned is the original of NAME."""
READERS = 4
MOST_MOVED, MOST_SCALED = 0.15, 1.5
"""How far the middle of a face may lie from that of its original's, as a share of the picture, and how many times as
far its mouth from its eyes: more than models change, less than an uncut photograph differs."""
RATIO_TOLERANCE = 0.01
"""How much the aspect ratios of a pair may differ: enough for rounding, too little for another crop."""


@dataclass(frozen=True)
class Pair:
    """A result, its original, and the name they share."""

    name: str
    result: Path
    original: Path


@dataclass(frozen=True)
class Row:
    """What was measured of one pair: scores by name, and whether a face was found (None: not searched); or the error.

    ``vgg`` [2 512] are VGG16 features of result and original for the Fréchet distance, where they are measured.
    """

    pair: Pair
    scores: dict[str, float] = field(default_factory=dict)
    face: bool | None = None
    vgg: Tensor | None = None
    error: Pixel2StyleError | None = None


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured of two folders or files."""

    results: Path
    originals: Path
    rows: list[Row]
    unmatched: list[str]
    """A sentence for each picture without a partner."""
    seconds: float
    fid: float | None = None

    @property
    def scored(self) -> list[Row]:
        """The pairs that have scores."""
        return [row for row in self.rows if row.error is None]

    @property
    def failed(self) -> list[Row]:
        """The pairs that could not be read or compared."""
        return [row for row in self.rows if row.error is not None]

    @property
    def undetected(self) -> list[str] | None:
        """Names of the results in which no face was found; None when faces were not searched."""
        if any(row.face is None for row in self.scored):
            return None
        return [row.pair.name for row in self.scored if not row.face]

    @property
    def metrics(self) -> list[str]:
        """The scores that were measured, in the order of tables."""
        return [name for name in METRICS if self.scored and name in self.scored[0].scores]

    def values(self, metric: str) -> list[float]:
        """One score of every scored pair, in order."""
        return [row.scores[metric] for row in self.scored]

    def distance(self) -> float | None:
        """The Fréchet distance of VGG16 features; None when it cannot be measured (``notes`` says why)."""
        found = [row.vgg for row in self.scored if row.vgg is not None]
        return frechet.distance(*torch.stack(found, 1)) if found else None

    def notes(self) -> list[str]:
        """What was not measured and what it needs, a sentence each."""
        notes = []
        if self.scored and self.scored[0].vgg is None:
            notes.append(f"LPIPS (vgg) and the Fréchet distance need a file of VGG16's weights: {how_to_get('vgg')}.")
        if len(self.scored) < frechet.LEAST:
            notes.append("A Fréchet distance needs at least two pictures.")
        return notes

    def summary(self) -> dict[str, Any]:
        """Everything but single pictures, for JSON; what is infinite or unknown is None."""
        names = self.undetected
        return {
            "results": str(self.results),
            "originals": str(self.originals),
            "pictures": len(self.scored),
            "undetected": None if names is None else len(names),
            "scores": {
                metric: {key: _finite(value) for key, value in spread(self.values(metric)).items()}
                for metric in self.metrics
            },
            "frechet_vgg": _finite(self.distance()),
            "fid": _finite(self.fid),
            "notes": self.notes(),
            "pictures_per_second": _finite(len(self.scored) / self.seconds if self.seconds else None),
            "undetected_pictures": names,
            "failed": {row.pair.name: str(row.error) for row in self.failed},
            "unmatched": self.unmatched,
        }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, median, standard deviation, least and most; no deviation (None) of one value or with an infinite one."""
    several = len(values) > 1 and all(map(math.isfinite, values))
    return {
        "mean": math.fsum(values) / len(values),
        "median": statistics.median(values),
        "std": statistics.stdev(values) if several else None,
        "least": min(values),
        "most": max(values),
    }


def _finite(value: float | None) -> float | None:
    """Six digits, more than the networks reproduce; None for what is not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def matched(results: Path, originals: Path, leave_out: Path | None = None) -> tuple[list[Pair], list[str]]:
    """Pictures of two folders with the same name (suffix ignored), in order, and a sentence for each without partner.

    Two files are one pair, whatever their names. ``leave_out`` is not searched. Raises ConfigError when nothing
    matches, or when a result is its own original.
    """
    if results.is_file() and originals.is_file():
        pairs, unmatched = [Pair(results.stem, results, originals)], list[str]()
    else:
        made, expected = (_by_name(folder, leave_out) for folder in (results, originals))
        aligned = {base: expected[f"{base}.aligned"] for base in made if f"{base}.aligned" in expected}
        made, expected = _without_companions(made), _without_companions(expected) | aligned
        pairs = [Pair(name, made[name], expected[name]) for name in sorted(made.keys() & expected.keys())]
        unmatched = [f"{made[name]} has no original in {originals}" for name in sorted(made.keys() - expected.keys())]
        used = {pair.original for pair in pairs}
        unused = sorted(file for name, file in expected.items() if name not in made and file not in used)
        unmatched += [f"{file} has no result in {results}" for file in unused]
    if not pairs:
        raise ConfigError(f"no picture in {results} has the name of one in {originals}: rename one or the other")
    if same := next((pair for pair in pairs if resolved(pair.result) == resolved(pair.original)), None):
        raise ConfigError(f"{same.result} would be compared with itself: name the folder of the originals")
    return pairs, unmatched


def _by_name(folder: Path, leave_out: Path | None) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name the folder of the results, then that of the originals")
    return {photo.name: photo.path for photo in photos.find([str(folder)], leave_out)}


def _without_companions(named: dict[str, Path]) -> dict[str, Path]:
    """All but NAME.pair and NAME.aligned beside a NAME."""
    bases = {name: name.removesuffix(end) for name in named for end in COMPANIONS if name.endswith(end)}
    return {name: file for name, file in named.items() if bases.get(name) not in named}


def compared(pairs: Sequence[Pair], scorer: Scorer, faces: FaceAligner | None, batch: int) -> Iterator[Row]:
    """A row for each pair, in order, ``batch`` pairs at once; a pair that cannot be read carries its error."""
    remaining = iter(pairs)
    with ThreadPoolExecutor(READERS) as readers:
        coming = [(pair, readers.submit(_read, pair)) for pair in islice(remaining, batch)]
        while coming:
            group = [(pair, future.result()) for pair, future in coming]
            coming = [(pair, readers.submit(_read, pair)) for pair in islice(remaining, batch)]
            yield from _rows(group, scorer, faces)


def _rows(
    group: Sequence[tuple[Pair, Tensor | ImageError]], scorer: Scorer, faces: FaceAligner | None
) -> Iterator[Row]:
    readable = [both for _, both in group if isinstance(both, Tensor)]
    scores = scorer(*torch.stack(readable, 1)) if readable else None
    place = 0
    for pair, both in group:
        if isinstance(both, ImageError):
            yield Row(pair, error=both)
            continue
        assert scores is not None
        found = faces.detect(images.to_picture(both[0])) if faces else []
        if faces and found and _is_elsewhere(found[0], both[1], pair, faces):
            yield Row(pair, error=ImageError(
                f"{pair.original} shows its face elsewhere than {pair.result}, so it is not cut as that was: cut it "
                "with pixel2style align, or name the folder that invert wrote as both, or pass --no-faces to compare "
                "them as they are"
            ))  # fmt: skip
        else:
            face = bool(found) if faces else None
            yield Row(pair, scores.of(place), face, None if scores.vgg is None else scores.vgg[place])
        place += 1


def _is_elsewhere(face: Face, original: Tensor, pair: Pair, faces: FaceAligner) -> bool:
    """Whether an original ``[3 h w]`` shows its face at another place or in another size than its result does."""
    if pair.original.stem.endswith(COMPANIONS):
        return False  # cut when the result was made
    expected = faces.detect(images.to_picture(original))
    if not expected:
        return False
    places = [one.landmarks.mean(0) for one in (face, expected[0])]
    sizes = [math.dist(one.landmarks[:2].mean(0), one.landmarks[3:].mean(0)) for one in (face, expected[0])]
    return math.dist(*places) > MOST_MOVED * max(original.shape) or max(sizes) > MOST_SCALED * min(sizes)


def _read(pair: Pair) -> Tensor | ImageError:
    """Result and original at 256 pixels ``[2 3 256 256]``."""
    try:
        made, expected = images.load(pair.result), images.load(pair.original)
    except ImageError as error:
        return error
    if abs(made.width * expected.height / (made.height * expected.width) - 1) > RATIO_TOLERANCE:
        sizes = f"{made.width} x {made.height} and its original {expected.width} x {expected.height} pixels"
        return ImageError(f"{pair.result} is {sizes}: cut both alike, see pixel2style align --help")
    return torch.cat([pooled(images.to_tensor(picture)[None]) for picture in (made, expected)])
