"""What a detail encoder is trained on: photographs and generated pictures with their rows and what these draw.

Rows are the encoder's; some photographs have rows after a Newton step, so that a network learns both kinds. On a CPU
encoding costs as much as the rest of a training step, so a cache can keep the results on disk.

Axes: ``b`` pictures of a batch, ``p`` photographs and ``g`` generated ones of them, ``k`` rows, ``d`` width of a row,
``s`` side of the coarse map, ``r`` side of a full-size picture.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pixel2style import files
from pixel2style.errors import ConfigError
from pixel2style.formats import safetensors
from pixel2style.generators import sampling
from pixel2style.inference.optimize import newton
from pixel2style.metrics.losses import Objective
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE, pooled
from pixel2style.tasks import degrade, find_task, make_source
from pixel2style.training.batches import mix_codes
from pixel2style.training.dataset import augment, mirrored, step_rng

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from photographs import opened, spaced

PIXELS = ("images", "drawn", "shown", "full")
"""Pictures, which the cache keeps in bytes."""
BANK = 48
"""Photographs whose rows are mixed in generated pictures."""
CELLS = 32
"""Cells of a picture along each side in which roughness is compared."""
FACE = (360, 300, 260, 170)
"""Where a window of 256 about eyes and mouth starts in 1024 pixels: first row and column, and ranges of both."""


Parts = dict[str, Tensor]
"""Fields of a Batch by name."""


@dataclass(frozen=True)
class SampleOptions:
    """Which pictures there are, and how many of them are in a step."""

    data: tuple[Path, ...]
    """Folders or tars of aligned photographs."""
    seed: int = 0
    batch: int = 4
    full_batch: int = 2
    """Photographs of a step at full size."""
    generated: int = 1
    """Generated pictures of a step at full size."""
    pool: int = 256
    """How many different generated pictures there are."""
    variants: int = 2
    """Of each photograph: itself, its mirror image, then augmented ones."""
    newton_every: int = 4
    """Every how many photographs have rows after a Newton step, in all variants but the first; 0: none."""
    cache: bool = False
    """Keep rows and pictures in ``out``/cache: 0.2 MB for each variant of a photograph, 3.5 MB for a generated one."""


@dataclass(frozen=True)
class Batch:
    """Pictures ``[b 3 256 256]``, their rows ``[b k d]`` and what these draw ``[b 3 8s 8s]``.

    ``shown`` ``[b 3 256 256]`` is what the network gets as photograph: ``images`` themselves, or what the model's task
    makes of their sources (``Task.shown``).

    At full size also the roughness ``[p 1 32 32]`` of what the photographs' rows draw, and the true pixels ``full``
    ``[g 3 r r]`` of the generated pictures, which are the last ones.
    """

    images: Tensor
    ws: Tensor
    drawn: Tensor
    shown: Tensor
    rough: Tensor | None = None
    full: Tensor | None = None


class Samples:
    """The batches of a run. With a cache, what is read from it is what a run without interruption would compute."""

    def __init__(
        self, options: SampleOptions, model: PSP, objective: Objective, input_size: int, bf16: bool, folder: Path
    ):
        self.options, self.model, self.objective, self.input_size = options, model, objective, input_size
        self.bf16, self.folder = bf16, folder
        self.device = model.w_avg.device
        self.task = find_task(model.config.task)
        folders = [read_pixels(source) for source in options.data]
        self.sizes, self.pixels = [len(folder) for folder in folders], torch.cat(folders)
        self.shares = torch.tensor(self.sizes).double().sqrt()
        if options.cache:
            files.make_folder(self.folder)

    def batch(self, rng: torch.Generator, full: bool) -> Batch:
        """The pictures that ``rng`` chooses, on the device."""
        options = self.options
        chosen = [self._choose(rng) for _ in range(options.full_batch if full else options.batch)]
        groups = [[one] for one in chosen] if options.cache else [chosen]  # alone, a picture's rows depend on it only
        parts = _joined([self._photographs(group, full) for group in groups])
        if not full or not options.generated:
            return Batch(**parts)
        places = torch.randint(options.pool, (options.generated,), generator=rng).tolist()
        made = _joined([self._kept(f"generated-{place}", partial(self._generated, place)) for place in places])
        return Batch(**parts | made | {name: torch.cat([parts[name], made[name]]) for name in parts.keys() & made})

    def photograph(self, index: int, variant: int) -> Tensor:
        """``[3 256 256]``: mirrored if ``variant`` is odd, augmented if it is above 1."""
        picture = to_images(self.pixels[index]).to(self.device)
        picture = augment(picture, step_rng(index, variant)) if variant > 1 else picture
        return mirrored(picture, variant % 2 == 1)

    @torch.no_grad()
    def encoded(self, images: Tensor, rngs: Sequence[torch.Generator], corrected: Sequence[bool] = ()) -> Parts:
        """``ws`` of images ``[b 3 256 256]``, after a Newton step where ``corrected``, and ``drawn`` and ``shown``.

        Sources are degraded as in the training of the model's task, with random numbers of ``rngs``, one each.
        """
        sources, degradations = zip(*(self._degraded(*one) for one in zip(images, rngs, strict=True)), strict=True)
        ws = self.model.encode(torch.stack(sources))
        for index in (index for index, chosen in enumerate(corrected) if chosen):
            one, source, degradation = slice(index, index + 1), sources[index][None, :3], degradations[index]
            ws[one] = newton.optimize(
                self.model, source, ws[one], degradation=degradation, objective=self.objective, bf16=self.bf16
            )
        drawn = self._draw(ws, min(self.input_size, self.model.generator.size))
        shown = self.task.shown
        if shown is None:
            raise ConfigError(f"results of {self.model.config.task} are drawn from rows alone: choose another --model")
        pictures = [shown(s[None], d[None], f) for s, d, f in zip(sources, drawn, degradations, strict=True)]
        return {"ws": ws, "drawn": drawn, "shown": torch.cat(pictures)}

    def _degraded(self, image: Tensor, rng: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
        """The source ``[c s s]`` of a picture ``[3 s s]``, and what degrades drawn pictures alike."""
        config = self.model.config.source
        if self.model.config.task != "superres":
            source = make_source(self.task, image, rng, config)
            return source, (lambda pictures: pictures * source[3:]) if len(source) == 4 else None
        config = replace(config, factors=(degrade.choose(config.factors, rng, "factors"),))
        return make_source(self.task, image, rng, config), partial(degrade.low_resolution, factor=config.factors[0])

    def _choose(self, rng: torch.Generator) -> tuple[int, int]:
        folder = int(torch.multinomial(self.shares, 1, generator=rng))
        index = sum(self.sizes[:folder]) + int(torch.randint(self.sizes[folder], (), generator=rng))
        return index, int(torch.randint(self.options.variants, (), generator=rng))

    def _photographs(self, group: list[tuple[int, int]], full: bool) -> dict[str, Tensor]:
        images = torch.stack([self.photograph(*one) for one in group])
        name = "-".join(map(str, group[0]))
        corrected, rngs = [self._corrected(*one) for one in group], [step_rng(*one) for one in group]
        found = self._kept(name, partial(self.encoded, images, rngs, corrected))
        if full:
            found |= self._kept(f"{name}-rough", lambda: {"rough": roughness(self._draw(found["ws"]))})
        return {"images": images, **found}

    def _corrected(self, index: int, variant: int) -> bool:
        """Whether the rows of a photograph are those after a Newton step."""
        every = self.options.newton_every if self.model.config.generator.kind in newton.BUNDLED else 0
        return variant > 0 and every > 0 and index % every == every - 1

    @torch.no_grad()
    def _generated(self, place: int) -> dict[str, Tensor]:
        """The generated picture of this number, at both sizes, of mixed rows; its rows are then the encoder's."""
        model, rng = self.model, step_rng(self.options.seed + 1, place)
        w = sampling.draw(model.generator, 3, rng, model.w_unit)
        codes = mix_codes((w - model.w_avg[0]) / model.w_unit, self._bank, rng)
        full = self._draw(codes * model.w_unit + model.w_avg)
        return {"images": pooled(full), "full": full, **self.encoded(pooled(full), [rng])}

    @cached_property
    def _bank(self) -> Tensor:
        images = to_images(torch.stack(spaced(list(self.pixels), BANK))).to(self.device)
        sources = torch.stack([self._degraded(image, step_rng(self.options.seed, 0))[0] for image in images])
        return torch.cat(
            [(self.model.encode(some) - self.model.w_avg) / self.model.w_unit for some in torch.split(sources, 8)]
        )

    @torch.no_grad()
    def _draw(self, ws: Tensor, size: int | None = None) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model.generator.synthesize(ws, size).float().clamp(-1, 1)

    def _kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What ``make`` makes; with a cache always as it is stored there, which rounds it."""
        if not self.options.cache:
            return make()
        file = self.folder / f"{name}.safetensors"
        if not file.exists():
            safetensors.write({key: _rounded(key, value) for key, value in make().items()}, file)
        stored = {key: value.to(self.device) for key, value in safetensors.read(file).items()}
        return {key: to_images(value) if key in PIXELS else value.float() for key, value in stored.items()}


def read_pixels(source: Path, count: int | None = None) -> Tensor:
    """The photographs in a folder or tar, ``[n 3 256 256]`` in bytes; only ``count`` of them, evenly spaced, if given.

    Raises ConfigError where there are none.
    """
    size = (COMPARE_SIZE, COMPARE_SIZE)
    found = [photo.resize(size, Image.Resampling.BICUBIC) for photo in opened(source)]
    if not found:
        raise ConfigError(f"{source}: holds no photographs; name a folder or tar of aligned ones")
    return torch.stack([torch.from_numpy(np.array(photo)).permute(2, 0, 1) for photo in spaced(found, count)])


def to_images(pixels: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """[-1, 1] to bytes, rounded."""
    return ((images + 1) * 127.5).round().clamp(0, 255).byte()


def _rounded(key: str, value: Tensor) -> Tensor:
    """As the cache keeps it: pictures in bytes, rows in 16 bits."""
    return to_pixels(value) if key in PIXELS else value.half() if key == "ws" else value


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def roughness(images: Tensor) -> Tensor:
    """Energy above a 9-pixel mean in 32 x 32 cells: ``[b 3 r r] -> [b 1 32 32]``."""
    images = images.contiguous()
    mean = F.avg_pool2d(images, (9, 1), 1, (4, 0), count_include_pad=False)
    mean = F.avg_pool2d(mean, (1, 9), 1, (0, 4), count_include_pad=False)
    return F.avg_pool2d((images - mean).square().mean(1, keepdim=True), images.shape[-1] // CELLS)


def excess(images: Tensor, allowed: Tensor) -> Tensor:
    """Mean squared log of the roughness above that ``allowed`` ``[b 1 32 32]`` in a cell or in a neighbour of it."""
    allowed = F.max_pool2d(allowed, 3, 1, 1)
    return ((roughness(images) + 1e-4).log() - (allowed + 1e-4).log()).relu().square().mean()


def windows(images: Sequence[Tensor], rng: torch.Generator) -> list[Tensor]:
    """Three windows of a quarter of the side, the same of each of ``images`` ``[g 3 r r]``: about the face, and two."""
    size = images[0].shape[-1]
    (top, left, height, width), border = FACE, size // 16
    near = [first + int(torch.randint(count, (), generator=rng)) for first, count in ((top, height), (left, width))]
    starts = [[start * size // 1024 for start in near]]
    starts += torch.randint(border, size * 3 // 4 - border, (2, 2), generator=rng).tolist()
    side = size // 4
    return [torch.cat([batch[..., y : y + side, x : x + side] for y, x in starts]) for batch in images]
