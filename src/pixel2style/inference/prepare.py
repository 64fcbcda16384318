"""What a task's model is shown of a user's picture, and what becomes of what it draws.

A photograph is cut to its face and, where its user asks for it, reduced or hidden behind a mask; a sketch or a label
map is read as it is. Sources are made as in training, at the same size. Everything random follows from a seed.

Axes: ``c`` channels of a source, ``s`` its side, ``r`` the generator's, ``n`` samples, ``k`` rows, ``d`` their width.
This module does not know networks, nor which files are written.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from .. import assets, images, tasks
from ..config import ModelConfig
from ..editing import latents
from ..errors import CheckpointError, ConfigError, ImageError
from ..faces.align import Points, crop
from ..generators.base import Generator
from ..models import input_channels
from ..ops import COMPARE_SIZE
from ..tasks import degrade, presets

MASKS = ("box", "half", "strokes")
"""Masks that are drawn; any other word names a file."""
MOST_SAMPLES = 48
"""With more, the sheet would have more pixels than ``images`` opens."""
NATURAL = 0.7
"""Truncation of new rows: without it (as in the paper) every other variant has a colour that no face has."""
TOUCHED = 25
"""Of 255: how much of a pixel may come from a hidden one before it counts as hidden."""
SOFT = 1 / 64
"""How wide the seam between known pixels and drawn ones is, in sides of the picture; it lies on the known ones."""


@dataclass(frozen=True)
class Request:
    """What a user asks for; fields are the options of ``pixel2style translate`` and ``invert``.

    ``refine`` None: one step where the task shows its target and the generator's curvature is known, else none.
    """

    task: str
    align: bool = True
    factor: int | None = None
    mask: str | Path | None = None
    keep_known: bool = False
    samples: int = 0
    rows: str = "8-"
    seed: int = 0
    alpha: float = 1.0
    refine: int | None = None


@dataclass(frozen=True)
class Frame:
    """The square of a picture that counts: an aligned face's ``quad`` [4 2], or the middle square where there is none.

    ``side`` is how many of the picture's own pixels it measures.
    """

    quad: Points | None
    side: int

    @staticmethod
    def around(quad: Points) -> "Frame":
        """The crop of a face."""
        return Frame(quad, max(1, round(math.dist(quad[0], quad[3]))))

    @staticmethod
    def middle(image: Image.Image) -> "Frame":
        """The largest square around the middle."""
        return Frame(None, min(image.size))

    def cut(self, image: Image.Image, size: int, height: int | None = None) -> Image.Image:
        """What it shows of a picture, ``size`` pixels wide, RGB; as high as wide, or the middle of that."""
        shape = (size, size if height is None else height)
        if self.quad is None:
            return ImageOps.fit(image.convert("RGB"), shape, Image.Resampling.LANCZOS)
        square = crop(image, self.quad, size)
        return square if square.size == shape else ImageOps.fit(square, shape, Image.Resampling.LANCZOS)


Framing = Callable[[Image.Image, bool], Frame]
"""From an upright picture, and whether a face is to be sought in it, to what counts of it. Raises NoFaceError."""


@dataclass(frozen=True)
class Shown:
    """What the encoder sees: a source [c s s], and the same as a picture for people.

    ``target`` [3 r r] and ``known`` [1 r r] are there where known pixels are to be kept. ``through`` makes of drawn
    pictures [b 3 256 256] what the first three channels of a source show of one, where that is less than all.
    """

    source: Tensor
    picture: Image.Image
    target: Tensor | None = None
    known: Tensor | None = None
    through: Callable[[Tensor], Tensor] | None = None

    def finished(self, drawn: Tensor) -> Image.Image:
        """What the generator drew, [3 r r], with the known pixels put back where they are to be kept."""
        if self.target is None or self.known is None:
            return images.to_picture(drawn)
        kept = softened(self.known)
        return images.to_picture(kept * self.target + (1 - kept) * drawn.to(self.target))


def model_for(task: str) -> str:
    """The bundled model of a task. Raises ConfigError for an unknown task, CheckpointError where none is bundled."""
    tasks.find_task(task)
    name = "faces" if task == "invert" else task
    if name in assets.names():
        return name
    preset = f"{task}-compact"
    how = f"train one (pixel2style train {preset} --help) or " if preset in presets.PRESETS else ""
    raise CheckpointError(f"no model for {task} is bundled: {how}name a file with --model")


def check(request: Request, config: ModelConfig, channels: int, model: str | Path) -> None:
    """Raise ConfigError where ``model``, so configured, cannot do what is asked, or nothing could."""
    task = tasks.find_task(request.task)
    if config.task != request.task:
        raise ConfigError(f"{model} was taught {config.task}, not {request.task}: choose another --model, or its task")
    if channels != tasks.channels_of(task, config.source):
        raise ConfigError(
            f"{model} reads {channels} channels, which is not what {request.task} shows: convert it again"
        )
    if request.factor is not None:
        if task.spoilt != "reduced":
            raise ConfigError(f"--factor makes small pictures for superres: leave it out of {request.task}")
        if not 1 <= request.factor < COMPARE_SIZE or COMPARE_SIZE % request.factor:
            raise ConfigError(
                f"--factor must divide {COMPARE_SIZE} pixels, and {request.factor} does not: choose 8, 16 or 32"
            )
    if task.spoilt != "masked" and (request.mask is not None or request.keep_known):
        raise ConfigError(f"--mask and --keep-known are for inpaint: leave them out of {request.task}")
    if request.refine and not task.shows_target:
        refuse_refining(request.task)
    if task.spoilt is not None and config.encoder.input_height:
        raise ConfigError(f"{model} reads wide pictures, which {request.task} does not make: choose one of squares")
    check_numbers(request, config.encoder.rows)


def refuse_refining(task: str) -> NoReturn:
    """Raise ConfigError: what a task changes is not to be changed back."""
    raise ConfigError(f"--refine holds answers to what a picture shows, and {task} changes that: leave it out")


def check_numbers(request: Request, rows: int) -> None:
    """Raise ConfigError for numbers that mean nothing, whatever the task and the model of ``rows`` rows."""
    if request.refine is not None and request.refine < 0:
        raise ConfigError(f"--refine counts steps, and {request.refine} is none: leave it out, or try 5")
    if not 0 <= request.samples <= MOST_SAMPLES:
        raise ConfigError(f"--samples must be from 0 to {MOST_SAMPLES}, not {request.samples}")
    if not 0 <= request.alpha <= 1:
        raise ConfigError(f"--alpha must be from 0 (nothing changes) to 1 (rows are replaced), not {request.alpha}")
    if request.samples:
        latents.parse_rows(request.rows, rows)


def opened_mask(request: Request) -> Image.Image | None:
    """The mask in a file, gray, white where something is to be drawn; None where the request names no file.

    Transparent parts count as white. Raises ImageError.
    """
    if request.mask is None or str(request.mask) in MASKS:
        return None
    return images.load(request.mask).convert("L").point(lambda level: 255 * (level > 127))


def show(
    photo: Image.Image | str | Path, request: Request, config: ModelConfig, frame: Framing, mask: Image.Image | None
) -> Shown:
    """What an encoder of ``config`` sees of a file, or of an upright picture, when ``request`` is asked for.

    ``mask`` is what ``opened_mask`` gives. Raises ImageError, NoFaceError, and ConfigError where the task reads files
    of another kind and is given a picture.
    """
    task = tasks.find_task(request.task)
    if not task.photograph:
        if isinstance(photo, Image.Image):
            raise ConfigError(f"sources of {request.task} are read from files: give the path of one")
        source = tasks.read_source(task, Path(photo), config.encoder.input_size, config.source)
        return Shown(source, _visible(source, task))
    picture = photo.convert("RGB") if isinstance(photo, Image.Image) else images.load(photo)
    hidden = None
    if task.spoilt == "masked" and request.mask is None:
        hidden = _transparent(photo)
    elif mask is not None:
        hidden = mask.resize(picture.size, Image.Resampling.NEAREST)
    here = frame(picture, request.align and task.faces)
    size = config.generator.size
    if task.spoilt == "masked":
        return _masked(here.cut(picture, size), _known(here, hidden, request, size), request.keep_known)
    if task.spoilt == "reduced" and request.factor is None:
        few = here.cut(picture, min(here.side, COMPARE_SIZE)).resize(
            (COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC
        )
        return Shown(images.to_tensor(few), few, through=partial(_reduced, side=min(here.side, COMPARE_SIZE)))
    height, width = config.encoder.input_shape
    whole = here.cut(picture, size, round(size * height / width))
    if request.factor is None and tasks.channels_of(task, config.source) == 3:
        return Shown(images.to_tensor(whole), whole)
    asked = config.source if request.factor is None else replace(config.source, factors=(request.factor,))
    target = images.to_tensor(whole.resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))
    source = tasks.made(task, target, _dice(request), asked)
    through = None if request.factor is None else partial(degrade.low_resolution, factor=request.factor)
    return Shown(source, _visible(source, task), through=through)


def resampled(ws: Tensor, generator: Generator, request: Request) -> Tensor:
    """Variants of one picture's rows ``[k d]``: ``[n k d]``, the same for the same seed, the first ones for any n."""
    many = ws[None].expand(request.samples, -1, -1)
    return latents.resample(many, generator, request.rows, request.seed, request.alpha, NATURAL)


def softened(known: Tensor) -> Tensor:
    """A mask ``[1 r r]`` of known pixels, 1, whose borders fall to 0 within the known part: ``[1 r r]``."""
    reach = max(1, round(known.shape[-1] * SOFT / 2))
    width, grown = 2 * reach + 1, 1 - known[None]
    for kernel, padding in (((width, 1), (reach, 0)), ((1, width), (0, reach))):
        grown = F.max_pool2d(grown, kernel, 1, padding)
    for kernel, padding in (((width, 1), (reach, 0)), ((1, width), (0, reach))):
        grown = F.avg_pool2d(grown, kernel, 1, padding, count_include_pad=False)
    return 1 - grown[0]


def _known(frame: Frame, hidden: Image.Image | None, request: Request, size: int) -> Tensor:
    """Which pixels of the cut picture are known, ``[1 size size]``; ``hidden`` is turned with it, or one is drawn."""
    if hidden is None:
        return degrade.mask(str(request.mask), size, _dice(request))
    level = images.to_tensor(frame.cut(hidden, size))[:1].add(1).mul(127.5)
    return (level <= TOUCHED).float()


def _masked(whole: Image.Image, known: Tensor, keep: bool) -> Shown:
    target = images.to_tensor(whole)
    few = images.resize(torch.cat([target, known])[None], COMPARE_SIZE)[0]
    # resized as the picture is, so that what hangs over from a hidden pixel is hidden too
    source = degrade.hide(few[:3], (few[3:] > 0.999).float())
    picture = images.to_picture(input_channels.to_rgb(source[None], classes=False)[0])
    shown = Shown(source, picture, through=lambda drawn: drawn * source[3:].to(drawn).clone())
    return replace(shown, target=target, known=known) if keep else shown


def _reduced(drawn: Tensor, side: int) -> Tensor:
    """Pictures [b 3 s s] as if they had ``side`` pixels a side, reduced and enlarged bicubically."""
    if drawn.device.type == "mps":  # its older PyTorch has no way back through this
        return _reduced(drawn.cpu(), side).to(drawn.device)
    few = F.interpolate(drawn, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return F.interpolate(few.clamp(-1, 1), drawn.shape[-2:], mode="bicubic", align_corners=False).clamp(-1, 1)


def _transparent(photo: Image.Image | str | Path) -> Image.Image:
    """The transparent part of a picture, white on black. Raises ImageError where it has none."""
    raw = photo if isinstance(photo, Image.Image) else images.load_raw(photo)
    alpha = raw.convert("RGBA").getchannel("A") if raw.has_transparency_data else Image.new("L", raw.size, 255)
    if alpha.getextrema()[0] == 255:
        name = "the picture" if isinstance(photo, Image.Image) else photo
        raise ImageError(
            f"nothing is hidden in {name}: give --mask box, half, strokes or a file, or make it transparent"
        )
    return alpha.point(lambda level: 255 * (level < 255))


def _visible(source: Tensor, task: tasks.Task) -> Image.Image:
    return images.to_picture(input_channels.to_rgb(source[None], task.classes)[0])


def _dice(request: Request) -> torch.Generator:
    return torch.Generator().manual_seed(request.seed)
