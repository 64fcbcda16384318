"""Which source belongs to which target, and whether all of them can be learned from, known before training begins.

A source and its target have the same path below their folders but for the suffix; their order says nothing. Whatever
does not fit is listed, all of it at once: a run that stops at the thousandth file has cost an hour.

This module does not know how pictures become batches.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .. import images, photos
from ..config import SourceConfig
from ..errors import ConfigError, Pixel2StyleError
from ..tasks import Task, label_maps

_SHOWN = 3
_SQUARE = 0.01
"""How far two aspects may be apart, as a share: a pixel of rounding is no fault."""


@dataclass(frozen=True)
class Pair:
    """A target and the file of its source, if it has one. ``name`` is their path in the folder without its suffix."""

    name: str
    target: Path
    source: Path | None = None


def photo_files(folder: str) -> list[Path]:
    """The pictures in a folder and below, sorted. Raises ConfigError when there are none."""
    files = sorted(photos.below(Path(folder)))
    if not files:
        raise ConfigError(f"{folder} holds no pictures: name a folder of pictures")
    return files


def find(
    data: Sequence[str], targets: Sequence[str], task: Task, source: SourceConfig, readers: int = 4
) -> list[list[Pair]]:
    """The pairs of each folder of ``data``, in the order of their names, verified.

    Raises ConfigError when a task needs targets that are not given, and, naming the first few and counting all, when
    ``examined`` finds something wrong.
    """
    found, wrong = examined(data, targets, task, source, readers)
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more, which pixel2style doctor lists" if len(wrong) > _SHOWN else ""
        files = "1 file" if len(wrong) == 1 else f"{len(wrong)} files"
        raise ConfigError(f"{files} cannot be learned from: {'; '.join(wrong[:_SHOWN])}{more}")
    return found


def examined(
    data: Sequence[str], targets: Sequence[str], task: Task, source: SourceConfig, readers: int = 4
) -> tuple[list[list[Pair]], list[str]]:
    """The pairs of each folder, and every file that cannot be learned from, a line each.

    Wrong is what is unmatched, unreadable, wrongly sized or holds classes that are not there. Raises ConfigError where
    there is nothing to look at.
    """
    found, wrong = _searched(data, targets, task)
    return found, wrong + _unusable(found, task, source, readers)


def _searched(data: Sequence[str], targets: Sequence[str], task: Task) -> tuple[list[list[Pair]], list[str]]:
    if not data:
        raise ConfigError("there is nothing to learn from: name folders of pictures with --data")
    if not targets:
        if task.source is None:
            raise ConfigError("this task cannot make its sources: name folders of targets with --targets")
        return [_alone(folder) for folder in data], []
    if len(targets) != len(data):
        raise ConfigError(f"{len(data)} folders of data and {len(targets)} of targets: name one target for each")
    matched = [_matched(*both) for both in zip(data, targets, strict=True)]
    return [pairs for pairs, _ in matched], [line for _, wrong in matched for line in wrong]


def _alone(folder: str) -> list[Pair]:
    return [Pair(_name(file, folder), file) for file in photo_files(folder)]


def _matched(data: str, targets: str) -> tuple[list[Pair], list[str]]:
    sources, wrong_sources = _by_name(data)
    wanted, wrong_targets = _by_name(targets)
    lonely = [f"{file} has no target in {targets}" for name, file in sources.items() if name not in wanted]
    lonely += [f"{file} has no source in {data}" for name, file in wanted.items() if name not in sources]
    pairs = [Pair(name, wanted[name], sources[name]) for name in sorted(sources.keys() & wanted.keys())]
    return pairs, wrong_sources + wrong_targets + lonely


def _by_name(folder: str) -> tuple[dict[str, Path], list[str]]:
    found: dict[str, Path] = {}
    wrong = []
    for file in photo_files(folder):
        first = found.setdefault(_name(file, folder), file)
        if first is not file:
            wrong.append(f"{file} has the name of {first}")
    return found, wrong


def _name(file: Path, folder: str) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _unusable(found: Iterable[Sequence[Pair]], task: Task, source: SourceConfig, readers: int) -> list[str]:
    resolved = replace(source, colours=label_maps.colour_table(source))
    look = partial(_looked_at, task=task, source=resolved)
    with ThreadPoolExecutor(readers) as pool:
        return [line for pairs in found for lines in pool.map(look, pairs) for line in lines]


def _looked_at(pair: Pair, task: Task, source: SourceConfig) -> list[str]:
    """What is wrong with a pair. Only what a task wants checked is decoded; headers say how large pictures are."""
    wrong = []
    try:
        width, height = images.size(pair.target)
        aspect = width / height
        if task.faces and abs(aspect - 1) > _SQUARE:
            wrong.append(f"{pair.target} is {width} x {height}, no aligned face: run pixel2style align")
    except Pixel2StyleError as error:
        wrong.append(str(error))
        aspect = None
    if pair.source is None:
        return wrong
    try:
        width, height = images.size(pair.source)
        if task.check is not None:
            task.check(pair.source, source)
        if aspect is not None and abs(width / height / aspect - 1) > _SQUARE:
            wrong.append(f"{pair.source} is {width} x {height}, of another shape than {pair.target}")
    except Pixel2StyleError as error:
        wrong.append(str(error))
    return wrong
