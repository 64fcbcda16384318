"""What an encoder is shown: pictures from folders with their sources, and pictures the generator makes from known rows.

A sample is a function of its seed, and a step's seeds are a function of the run's seed and the step's number: a run
that is resumed, or spread over processes and threads, sees what an unbroken one would have seen. Validation takes
nothing from a run: what is random in it follows from a picture's place in the order of names.

Axes: ``b`` batch, ``c`` channels of a source, ``s`` side, ``k`` rows, ``d`` width of a row. This module does not know
what a task does to a picture, nor what a network does with it.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .. import images
from ..config import SourceConfig
from ..errors import ConfigError
from ..ops import COMPARE_SIZE
from ..tasks import Task, channels_of, label_maps, make_source, read_source
from .pairs import Pair, find
from .picture_cache import Kept
from .picture_cache import to_float as to_float

_SAMPLES, _PLACES = 1, 2
"""Branches of the random numbers that spring from a seed, so that no two uses draw the same."""


def dice(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step; always on the CPU, so that every device sees the same."""
    mixed = np.random.SeedSequence([seed, step]).generate_state(2)
    return torch.Generator().manual_seed(int(mixed[0]) << 32 | int(mixed[1]))


def seeds(seed: int, step: int, count: int) -> list[int]:
    """A seed for each place in the joint batch of a step; the first ones do not depend on ``count``."""
    return _words([seed, step], _SAMPLES, count)


class Pictures:
    """Targets from folders, with the sources that a task makes of them or that lie in folders of their own.

    Folders are drawn from in proportion to the square root of their size. Files are read when they are drawn, in
    ``readers`` threads; the first ``memory`` GB of them are kept. Sources that are files have ``side`` pixels a side,
    those that are made as many as targets: 256. ``mirror`` and ``augment`` change what ``batch`` gives, never what
    ``fixed`` gives; pairs of files are mirrored but not augmented. Raises ConfigError for what ``pairs.find`` finds
    wrong, and where a source has not the channels that its task says.
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
        self.source = replace(source, colours=label_maps.colour_table(source))
        folders = find(data, targets, task, self.source, readers)
        self.pairs = [pair for folder in folders for pair in folder]
        self.names = [pair.name for pair in self.pairs]
        self.sizes = [len(folder) for folder in folders]
        roots = torch.tensor(self.sizes, dtype=torch.float64).sqrt()
        self.shares = roots / roots.sum()
        self._kept = Kept(memory)
        self._pool = ThreadPoolExecutor(readers)
        made, said = self.fixed(0, 1)[0].shape[1], channels_of(task, self.source)
        if made != said:
            raise ConfigError(f"the task says {said} channels and its sources have {made}: make them agree")

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sources ``[b c s s]`` and targets ``[b 3 256 256]`` in [-1, 1], a sample for each seed, on the CPU.

        Raises ImageError, with the file's name, for a picture that turns out to be broken.
        """
        return _stacked(self._pool.map(self._drawn, seeds))

    def fixed(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The pictures from place ``start`` to before ``stop``, as ``batch`` gives them, the same every time.

        What a task draws at random follows from the place, and so does which sources are mirrored where a task mirrors
        them apart; targets are never mirrored.
        """
        return _stacked(self._pool.map(self._placed, range(start, min(stop, len(self)))))

    def _drawn(self, seed: int) -> tuple[Tensor, Tensor]:
        rng = _generator(seed)
        folder = int(torch.multinomial(self.shares, 1, generator=rng))
        place = sum(self.sizes[:folder]) + int(torch.randint(self.sizes[folder], (), generator=rng))
        first, second = (self.mirror and coin for coin in (torch.rand(2, generator=rng) < 0.5).tolist())
        source, target = self._opened(self.pairs[place])
        paired = source is not None
        if source is None and self.augment:
            target = augment(target, rng)
        if self.task.mirror == "together":
            source, target = None if source is None else turned(source, first), turned(target, first)
        source = make_source(self.task, target, rng, self.source) if source is None else source
        if self.task.mirror == "apart":
            return turned(source, first), turned(target, first if paired else second)
        return source, target

    def _placed(self, place: int) -> tuple[Tensor, Tensor]:
        rng = _generator(_words([place], _PLACES, 1)[0])
        first = self.task.mirror == "apart" and bool(torch.rand((), generator=rng) < 0.5)
        source, target = self._opened(self.pairs[place])
        if source is not None:
            return source, target
        return turned(make_source(self.task, target, rng, self.source), first), target

    def _opened(self, pair: Pair) -> tuple[Tensor | None, Tensor]:
        """The source of a pair, if it is a file, and the target."""
        target = self._kept(f"target {pair.target}", lambda: photograph(pair))
        path = pair.source
        if path is None:
            return None, target
        return self._kept(f"source {path}", lambda: read_source(self.task, path, self.side, self.source)), target


def photograph(pair: Pair) -> Tensor:
    """The target of a pair: ``[3 256 256]`` in [-1, 1]."""
    return images.to_tensor(images.load(pair.target).resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))


def task_source(task: Task, targets: Tensor, seeds: Sequence[int], source: SourceConfig, mirror: bool = True) -> Tensor:
    """Sources ``[b c s s]`` of pictures ``[b 3 s s]`` that a generator made, one seed each, where the pictures are.

    The pictures stay as they are, since their rows are known; with ``mirror``, half of the sources are mirrored where
    the task mirrors them apart. Raises ConfigError where the task makes no sources.
    """
    sources = []
    for target, seed in zip(targets, seeds, strict=True):
        rng = _generator(seed)
        first = mirror and task.mirror == "apart" and bool(torch.rand((), generator=rng) < 0.5)
        sources.append(turned(make_source(task, target, rng, source), first))
    return torch.stack(sources)


def turned(picture: Tensor, mirrored: bool) -> Tensor:
    """``[c h w]``, mirrored or as it is."""
    return picture.flip(-1) if mirrored else picture


def augment(picture: Tensor, rng: torch.Generator, share: float = 0.6) -> Tensor:
    """Move, turn, scale and tint a picture a little: ``[3 s s]`` in [-1, 1] to the same.

    As much as detectors differ and cameras do: 4 degrees, 6 % of scale, 3 % of the side; brightness, contrast,
    saturation and the three channels by about 10 %. Each happens with probability ``share``.
    """

    def spread(width: float, *shape: int) -> Tensor:
        chosen = bool(torch.rand((), generator=rng) < share)
        return torch.randn(shape, generator=rng).clamp(-2, 2) * width * chosen

    angle, scale, shift = spread(0.035), torch.exp(spread(0.03)), spread(0.03, 2, 1)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    turn = torch.cat([torch.stack([cosine, -sine, sine, cosine]).reshape(2, 2), shift], 1).to(picture.device)
    with torch.autocast(picture.device.type, enabled=False):  # in bfloat16 places would be off by half a pixel
        grid = F.affine_grid(turn[None], [1, *picture.shape], align_corners=False)
        picture = F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
    saturation, contrast, light, tint = spread(0.12).exp(), spread(0.08).exp(), spread(0.06), spread(0.04, 3, 1, 1)
    gray = picture.mean(0, keepdim=True)
    picture = gray + (picture - gray) * saturation.to(picture)
    mean = picture.mean()
    picture = mean + (picture - mean) * contrast.to(picture)
    return (picture + (light + tint).to(picture)).clamp(-1, 1)


def mixed_codes(w_codes: Tensor, bank: Tensor, rng: torch.Generator) -> Tensor:
    """Rows worth knowing: ``[3b d]`` mapped codes and a bank ``[n k d]`` of encoded photographs to ``[b k d]``.

    Each picture has its rows from up to three sources, cut at random places. Half of the pictures take mapped codes,
    pulled towards the average by 0.7 to 1; the other half take rows of encoded photographs, with a little noise.
    """
    rows = bank.shape[1]
    count = len(w_codes) // 3
    device = w_codes.device
    truncation = (0.7 + 0.3 * torch.rand(count, 1, 1, 1, generator=rng)).to(device)
    mapped = w_codes.reshape(count, 3, 1, -1) * truncation
    chosen = torch.randint(len(bank), (count, 3), generator=rng).to(device)
    encoded = bank[chosen] + 0.15 * torch.randn(count, 3, rows, bank.shape[2], generator=rng).to(device)
    from_bank = (torch.rand(count, 1, 1, 1, generator=rng) < 0.5).to(device)
    sources = torch.where(from_bank, encoded, mapped.expand(-1, -1, rows, -1))
    return cut_together(sources, rng)


def cut_together(sources: Tensor, rng: torch.Generator) -> Tensor:
    """``[b 3 k d] -> [b k d]``: the first rows of one source, then of the next, cut at two random places."""
    count, _, rows, width = sources.shape
    cuts = torch.randint(-rows // 2, rows + rows // 2, (count, 2), generator=rng).sort(1).values
    place = torch.arange(rows)
    source = ((place >= cuts[:, :1]).long() + (place >= cuts[:, 1:]).long()).to(sources.device)
    return sources.gather(1, source[:, None, :, None].expand(-1, 1, -1, width))[:, 0]


def _words(entropy: list[int], branch: int, count: int) -> list[int]:
    sequence = np.random.SeedSequence(entropy, spawn_key=(branch,))
    return [int(word) for word in sequence.generate_state(count, np.uint64)]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _stacked(samples: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    sources, targets = zip(*samples, strict=True)
    return torch.stack(sources), torch.stack(targets)
