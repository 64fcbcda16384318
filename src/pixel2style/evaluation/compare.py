"""Results against originals, folder by folder: which belong together, and what the judges say of each and of all.

A picture in which no face is found is counted, and judged like every other. This module does not know what made the
results, nor how they are told (``report``).
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
from ..faces.align import FaceAligner
from ..metrics import frechet
from ..metrics.features import how_to_get
from ..metrics.scores import METRICS, Judges
from ..ops import pooled

BESIDE = (".pair", ".aligned")
"""What ``pixel2style invert`` writes beside NAME.png; NAME.aligned is the original of NAME."""
READERS = 4
ALIKE = 0.01
"""How much two pictures' proportions may differ: rounding, not another crop."""


@dataclass(frozen=True)
class Pair:
    """A result, the picture it should be, and the name they share."""

    name: str
    result: Path
    original: Path


@dataclass(frozen=True)
class Verdict:
    """What was found of one pair: its scores by name, whether a face is seen (None: not asked), or why there is none.

    ``vgg`` [2 512] are the features of result and original for a Fréchet distance, where they are measured.
    """

    pair: Pair
    scores: dict[str, float] = field(default_factory=dict)
    face: bool | None = None
    vgg: Tensor | None = None
    error: Pixel2StyleError | None = None


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found, of two folders or files."""

    results: Path
    originals: Path
    verdicts: list[Verdict]
    alone: list[str]
    """A sentence for each picture that has no partner."""
    seconds: float
    fid: float | None = None

    @property
    def judged(self) -> list[Verdict]:
        """The pairs that have scores."""
        return [verdict for verdict in self.verdicts if verdict.error is None]

    @property
    def failed(self) -> list[Verdict]:
        """The pairs that could not be read or compared."""
        return [verdict for verdict in self.verdicts if verdict.error is not None]

    @property
    def undetected(self) -> list[str] | None:
        """Names of the results in which no face was found; None when nobody looked."""
        if any(verdict.face is None for verdict in self.judged):
            return None
        return [verdict.pair.name for verdict in self.judged if not verdict.face]

    @property
    def metrics(self) -> list[str]:
        """The scores that were measured, in the order of tables."""
        return [name for name in METRICS if self.judged and name in self.judged[0].scores]

    def values(self, metric: str) -> list[float]:
        """One score of every judged picture, in order."""
        return [verdict.scores[metric] for verdict in self.judged]

    def distance(self) -> float | None:
        """The Fréchet distance of VGG16's features; None when not measurable (``notes`` says why)."""
        found = [verdict.vgg for verdict in self.judged if verdict.vgg is not None]
        return frechet.distance(*torch.stack(found, 1)) if found else None

    def notes(self) -> list[str]:
        """What was not measured, and what would change that, a sentence each."""
        notes = []
        if self.judged and self.judged[0].vgg is None:
            notes.append(f"LPIPS (vgg) and the Fréchet distance need a file of VGG16's weights: {how_to_get('vgg')}.")
        if len(self.judged) < frechet.LEAST:
            notes.append("A Fréchet distance is not measurable with less than two pictures.")
        return notes

    def summary(self) -> dict[str, Any]:
        """All of it but single pictures, as JSON knows it; what is infinite or unknown is None."""
        names = self.undetected
        return {
            "results": str(self.results),
            "originals": str(self.originals),
            "pictures": len(self.judged),
            "undetected": None if names is None else len(names),
            "scores": {
                metric: {key: _plain(value) for key, value in spread(self.values(metric)).items()}
                for metric in self.metrics
            },
            "frechet_vgg": _plain(self.distance()),
            "fid": _plain(self.fid),
            "notes": self.notes(),
            "pictures_per_second": _plain(len(self.judged) / self.seconds if self.seconds else None),
            "undetected_pictures": names,
            "failed": {verdict.pair.name: str(verdict.error) for verdict in self.failed},
            "unmatched": self.alone,
        }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, median, standard deviation (None of one value, or beside an infinite one), least and most of some."""
    several = len(values) > 1 and all(map(math.isfinite, values))
    return {
        "mean": math.fsum(values) / len(values),
        "median": statistics.median(values),
        "std": statistics.stdev(values) if several else None,
        "least": min(values),
        "most": max(values),
    }


def _plain(value: float | None) -> float | None:
    """Six digits, which is more than the networks agree to; None for what is not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def matched(results: Path, originals: Path, leave_out: Path | None = None) -> tuple[list[Pair], list[str]]:
    """Pictures of two folders that have one name, suffix aside, in order; and a sentence for each that stays alone.

    Two files are one pair, whatever their names. ``leave_out`` is not searched. Raises ConfigError when nothing
    belongs together, or when results are their own originals.
    """
    if results.is_file() and originals.is_file():
        pairs, alone = [Pair(results.stem, results, originals)], list[str]()
    else:
        made, meant = (_named(folder, leave_out) for folder in (results, originals))
        aligned = {base: meant[f"{base}.aligned"] for base in made if f"{base}.aligned" in meant}
        made, meant = _without_companions(made), _without_companions(meant) | aligned
        pairs = [Pair(name, made[name], meant[name]) for name in sorted(made.keys() & meant.keys())]
        alone = [f"{made[name]} has no original in {originals}" for name in sorted(made.keys() - meant.keys())]
        taken = {pair.original for pair in pairs}
        left = sorted(file for name, file in meant.items() if name not in made and file not in taken)
        alone += [f"{file} has no result in {results}" for file in left]
    if not pairs:
        raise ConfigError(f"no picture in {results} is called like one in {originals}: rename one or the other")
    if same := next((pair for pair in pairs if pair.result.resolve() == pair.original.resolve()), None):
        raise ConfigError(f"{same.result} would be judged against itself: name the folder of the originals")
    return pairs, alone


def _named(folder: Path, leave_out: Path | None) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name the folder of the results, then that of the originals")
    return {photo.name: photo.path for photo in photos.find([str(folder)], leave_out)}


def _without_companions(named: dict[str, Path]) -> dict[str, Path]:
    """All but NAME.pair and NAME.aligned beside a NAME."""
    bases = {name: name.removesuffix(end) for name in named for end in BESIDE if name.endswith(end)}
    return {name: file for name, file in named.items() if bases.get(name) not in named}


def verdicts(pairs: Sequence[Pair], judges: Judges, faces: FaceAligner | None, batch: int) -> Iterator[Verdict]:
    """What the judges say of each pair, in order, ``batch`` at once; one that cannot be read carries its error."""
    remaining = iter(pairs)
    with ThreadPoolExecutor(READERS) as readers:
        coming = [(pair, readers.submit(_read, pair)) for pair in islice(remaining, batch)]
        while coming:
            group = [(pair, future.result()) for pair, future in coming]
            coming = [(pair, readers.submit(_read, pair)) for pair in islice(remaining, batch)]
            yield from _judged(group, judges, faces)


def _judged(
    group: Sequence[tuple[Pair, Tensor | ImageError]], judges: Judges, faces: FaceAligner | None
) -> Iterator[Verdict]:
    readable = [both for _, both in group if isinstance(both, Tensor)]
    scores = judges(*torch.stack(readable, 1)) if readable else None
    place = 0
    for pair, both in group:
        if isinstance(both, ImageError):
            yield Verdict(pair, error=both)
            continue
        assert scores is not None
        seen = bool(faces.detect(images.to_picture(both[0]))) if faces else None
        yield Verdict(pair, scores.of(place), seen, None if scores.vgg is None else scores.vgg[place])
        place += 1


def _read(pair: Pair) -> Tensor | ImageError:
    """Result and original at 256 pixels ``[2 3 256 256]``."""
    try:
        made, meant = images.load(pair.result), images.load(pair.original)
    except ImageError as error:
        return error
    if abs(made.width * meant.height / (made.height * meant.width) - 1) > ALIKE:
        sizes = f"{made.width} x {made.height} and its original {meant.width} x {meant.height} pixels"
        return ImageError(f"{pair.result} is {sizes}: cut both alike, see pixel2style align --help")
    return torch.cat([pooled(images.to_tensor(picture)[None]) for picture in (made, meant)])
