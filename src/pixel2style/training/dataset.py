"""The pictures of a run: which files belong together, whether they can be used, and samples made of them.

A source file and its target file have the same path below their folders but for the suffix. All files are checked
before training starts, and all problems are listed at once: a run that stops at the thousandth file has cost an hour.

A sample is a function of its seed, and the seeds of a step are a function of the run's seed and the step's number. So a
run that is resumed, or shared by processes and threads, sees the same samples as an uninterrupted one. In validation,
everything random follows from a picture's index in the sorted names.

Axes: ``b`` batch, ``c`` channels of a source, ``h w`` and ``s`` sides.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .. import images, photos
from ..config import SourceConfig
from ..errors import ConfigError, Pixel2StyleError
from ..ops import COMPARE_SIZE
from ..tasks import Task, channels_of, make_source, read_settings, read_source
from .picture_cache import PictureCache

_SAMPLES, _INDICES = 1, 2
"""Spawn keys: numbers that are derived from one seed for different uses never coincide."""
_LISTED = 3
_ASPECT_TOLERANCE = 0.01
"""Relative difference of two aspect ratios that rounding to whole pixels may cause."""


def step_rng(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step; always on the CPU, so that every device gets the same."""
    words = np.random.SeedSequence([seed, step]).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


def sample_seeds(seed: int, step: int, count: int) -> list[int]:
    """A seed for each sample of a step's joint batch; the first ones do not depend on ``count``."""
    return _derived_seeds([seed, step], _SAMPLES, count)


@dataclass(frozen=True)
class Pair:
    """A target file and its source file, if it has one. ``name`` is their path in the folder without its suffix."""

    name: str
    target: Path
    source: Path | None = None


def photo_files(folder: str) -> list[Path]:
    """The picture files in a folder and its subfolders, sorted. Raises ConfigError when there are none."""
    files = sorted(photos.below(Path(folder)))
    if not files:
        raise ConfigError(f"{folder} holds no pictures: name a folder of pictures")
    return files


def check_pairs(
    data: Sequence[str], targets: Sequence[str], task: Task, source: SourceConfig, readers: int = 4
) -> tuple[list[list[Pair]], list[str]]:
    """The pairs of each folder of ``data``, sorted by name, and a line for every file that cannot be used.

    Checked are: matching names, readability, sizes, and for label maps the classes. Raises ConfigError when there are
    no folders, or not one of ``targets`` for each of ``data`` where the task needs them.
    """
    if not data:
        raise ConfigError("there is nothing to train on: name folders of pictures with --data")
    if not targets and task.source is None:
        raise ConfigError("this task cannot make its sources: name folders of targets with --targets")
    if targets and len(targets) != len(data):
        raise ConfigError(f"{len(data)} folders of data and {len(targets)} of targets: name one target for each")
    problems: list[str] = []
    folders: list[list[Pair]] = []
    for index, folder in enumerate(data):
        if targets:
            folders.append(_match(folder, targets[index], problems))
        else:
            folders.append([Pair(_name(file, folder), file) for file in photo_files(folder)])
    source = read_settings(task, source)
    check = partial(_check_pair, task=task, source=source)
    with ThreadPoolExecutor(readers) as pool:
        problems += [line for pairs in folders for lines in pool.map(check, pairs) for line in lines]
    return folders, problems


def _match(data: str, targets: str, problems: list[str]) -> list[Pair]:
    """The pairs of two folders; files without a partner and names that occur twice are added to ``problems``."""
    sources, wanted = _by_name(data, problems), _by_name(targets, problems)
    problems += [f"{file} has no target in {targets}" for name, file in sources.items() if name not in wanted]
    problems += [f"{file} has no source in {data}" for name, file in wanted.items() if name not in sources]
    return [Pair(name, wanted[name], sources[name]) for name in sorted(sources.keys() & wanted.keys())]


def _by_name(folder: str, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in photo_files(folder):
        first = found.setdefault(_name(file, folder), file)
        if first is not file:
            problems.append(f"{file} has the name of {first}")
    return found


def _name(file: Path, folder: str) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _check_pair(pair: Pair, task: Task, source: SourceConfig) -> list[str]:
    """What is wrong with a pair. Files are decoded only where the task has a check of its own; else headers suffice."""
    problems: list[str] = []
    aspect = None
    try:
        width, height = images.size(pair.target)
        aspect = width / height
        if task.faces and abs(aspect - 1) > _ASPECT_TOLERANCE:
            problems.append(f"{pair.target} is {width} x {height}, no aligned face: run pixel2style align")
    except Pixel2StyleError as error:
        problems.append(str(error))
    if pair.source is None:
        return problems
    try:
        width, height = images.size(pair.source)
        if task.check is not None:
            task.check(pair.source, source)
        if aspect is not None and abs(width / height / aspect - 1) > _ASPECT_TOLERANCE:
            problems.append(f"{pair.source} is {width} x {height}, of another shape than {pair.target}")
    except Pixel2StyleError as error:
        problems.append(str(error))
    return problems


class Pictures:
    """Targets from folders, with sources that the task makes of them or that are files in folders of their own.

    Folders are sampled in proportion to the square root of their size. Files are read when they are sampled, in
    ``readers`` threads; the first ``memory`` GB of them stay in memory. Source files are resized to ``side``, sources
    that the task makes have the size of targets, 256. ``mirror`` and ``augment`` apply to ``batch``, never to
    ``fixed``; pairs of files are mirrored but not shifted or coloured. With ``augment`` sources are varied, too, where
    the task says how. Raises ConfigError for what ``check_pairs`` finds, and
    where a source has other channels than its task says.
    """

    def __init__(
        self,
        data: Sequence[str],
        targets: Sequence[str],
        task: Task,
        source: SourceConfig,
        *,
        side: int = COMPARE_SIZE,
        mirror: bool = True,
        augment: bool = False,
        readers: int = 4,
        memory: float = 4.0,
    ):
        self.task, self.side, self.mirror, self.augment = task, side, mirror, augment
        self.source = read_settings(task, source)
        folders, problems = check_pairs(data, targets, task, self.source, readers)
        if problems:
            more = f"; and {len(problems) - _LISTED} more, which pixel2style doctor lists"
            files = "1 file" if len(problems) == 1 else f"{len(problems)} files"
            raise ConfigError(
                f"{files} cannot be used: {'; '.join(problems[:_LISTED])}{more if len(problems) > _LISTED else ''}"
            )
        self.pairs = [pair for folder in folders for pair in folder]
        self.names = [pair.name for pair in self.pairs]
        self.sizes = [len(folder) for folder in folders]
        roots = torch.tensor(self.sizes, dtype=torch.float64).sqrt()
        self.shares = roots / roots.sum()
        self._cache = PictureCache(memory)
        self._pool = ThreadPoolExecutor(readers)
        found, expected = self.fixed(0, 1)[0].shape[1], channels_of(task, self.source)
        if found != expected:
            raise ConfigError(f"the task says {expected} channels and its sources have {found}: make them agree")

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sources ``[b c s s]`` and targets ``[b 3 256 256]`` in [-1, 1], a random sample for each seed, on the CPU.

        Raises ImageError, with the file's name, for a file that has become unreadable.
        """
        return _stack(self._pool.map(self._sample, seeds))

    def fixed(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The pictures with index ``start`` to ``stop - 1``, shaped as in ``batch``, the same every time.

        What a task draws at random follows from the index, as does which sources are mirrored where a task mirrors
        source and target separately; targets are never mirrored.
        """
        return _stack(self._pool.map(self._fixed, range(start, min(stop, len(self)))))

    def _sample(self, seed: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(seed)
        folder = int(torch.multinomial(self.shares, 1, generator=rng))
        index = sum(self.sizes[:folder]) + int(torch.randint(self.sizes[folder], (), generator=rng))
        first, second = (self.mirror and coin for coin in (torch.rand(2, generator=rng) < 0.5).tolist())
        source, target = self._read(self.pairs[index])
        paired = source is not None
        if source is None and self.augment:
            target = augment(target, rng)
        if self.task.mirror == "together" and first:
            source, target = self._mirrored(source, target)
        source = make_source(self.task, target, rng, self.source) if source is None else source
        if self.augment and self.task.vary is not None:
            source = self.task.vary(source, rng, self.source)
        if self.task.mirror == "apart":
            return mirrored(source, first), mirrored(target, first if paired else second)
        return source, target

    def _fixed(self, index: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(_derived_seeds([index], _INDICES, 1)[0])
        first = self.task.mirror == "apart" and bool(torch.rand((), generator=rng) < 0.5)
        source, target = self._read(self.pairs[index])
        if source is not None:
            return source, target
        return mirrored(make_source(self.task, target, rng, self.source), first), target

    def _mirrored(self, source: Tensor | None, target: Tensor) -> tuple[Tensor | None, Tensor]:
        """A pair, mirrored if the task can mirror such a source."""
        if source is None:
            return None, mirrored(target, True)
        turned = mirrored(source, True) if self.task.mirrored is None else self.task.mirrored(source, self.source)
        return (source, target) if turned is None else (turned, mirrored(target, True))

    def _read(self, pair: Pair) -> tuple[Tensor | None, Tensor]:
        """The source of a pair, None where it has no file, and the target."""
        target = self._cache(f"target {pair.target}", lambda: read_target(pair))
        path = pair.source
        if path is None:
            return None, target
        return self._cache(f"source {path}", lambda: read_source(self.task, path, self.side, self.source)), target


def read_target(pair: Pair) -> Tensor:
    """The target of a pair: ``[3 256 256]`` in [-1, 1]."""
    return images.to_tensor(images.load(pair.target).resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))


def make_sources(
    task: Task, targets: Tensor, seeds: Sequence[int], source: SourceConfig, mirror: bool = True
) -> Tensor:
    """Sources ``[b c s s]`` of generated pictures ``[b 3 s s]``, one seed each, on the device of the pictures.

    Generated pictures stay as they are, since their rows are known; with ``mirror``, half of the sources are mirrored
    where the task mirrors source and target separately. Raises ConfigError where the task makes no sources.
    """
    sources = []
    for target, seed in zip(targets, seeds, strict=True):
        rng = torch.Generator().manual_seed(seed)
        flip = mirror and task.mirror == "apart" and bool(torch.rand((), generator=rng) < 0.5)
        sources.append(mirrored(make_source(task, target, rng, source), flip))
    return torch.stack(sources)


def mirrored(picture: Tensor, flip: bool) -> Tensor:
    """``[c h w]``, flipped left to right if ``flip``."""
    return picture.flip(-1) if flip else picture


def augment(picture: Tensor, rng: torch.Generator, share: float = 0.6) -> Tensor:
    """Shift, rotate, scale and recolour a picture slightly: ``[3 s s]`` in [-1, 1] to the same.

    By about as much as detectors and cameras differ: 4 degrees, 6 % of scale, 3 % of the side; brightness, contrast,
    saturation and the three channels by about 10 %. Each is applied with probability ``share``.
    """

    def spread(width: float, *shape: int) -> Tensor:
        chosen = bool(torch.rand((), generator=rng) < share)
        return torch.randn(shape, generator=rng).clamp(-2, 2) * width * chosen

    angle, scale, shift = spread(0.035), torch.exp(spread(0.03)), spread(0.03, 2, 1)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    affine = torch.cat([torch.stack([cosine, -sine, sine, cosine]).reshape(2, 2), shift], 1).to(picture.device)
    with torch.autocast(picture.device.type, enabled=False):  # in bfloat16 positions would be off by half a pixel
        grid = F.affine_grid(affine[None], [1, *picture.shape], align_corners=False)
        picture = F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
    saturation, contrast, light, tint = spread(0.12).exp(), spread(0.08).exp(), spread(0.06), spread(0.04, 3, 1, 1)
    gray = picture.mean(0, keepdim=True)
    picture = gray + (picture - gray) * saturation.to(picture)
    mean = picture.mean()
    picture = mean + (picture - mean) * contrast.to(picture)
    return (picture + (light + tint).to(picture)).clamp(-1, 1)


def _derived_seeds(entropy: list[int], key: int, count: int) -> list[int]:
    sequence = np.random.SeedSequence(entropy, spawn_key=(key,))
    return [int(word) for word in sequence.generate_state(count, np.uint64)]


def _stack(samples: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    sources, targets = zip(*samples, strict=True)
    return torch.stack(sources), torch.stack(targets)
