"""What a user asks of a task, and what the encoder gets for it.

Axes: ``c`` channels of a source, ``s`` its side, ``r`` the generator's side.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.Image import Resampling
from torch import Tensor

from .. import images
from ..config import ModelConfig
from ..errors import ConfigError, ImageError
from ..faces.align import Choice, Points, crop, ffhq_quad, in_square
from ..generators.sampling import seeded
from . import seam
from .face_masks import ALIGNED, MASKS
from .pencils import Style

STRETCHED = 0.01
"""Share by which a side of a mask may differ from its photograph's shape without a note."""
MOST_SEEDS = 100
"""More results of one picture are asked for by mistake."""


@dataclass(frozen=True)
class Request:
    """What a user asks for: the options of ``pixel2style translate`` and ``invert``.

    ``mask`` is one of ``face_masks.MASKS``, or a picture or a file of one, white where pixels are hidden (``opened``).
    ``refine`` None: if the generator's curvature is known one step where the task is refinable, three where it has an
    ``agreement``; else none. ``detail``: whether results also have features, where the model has a detail encoder and
    the task ``shown``. ``budget``, seconds for each photograph, and ``target``, a distance by LPIPS, refine an
    inversion until one of them is reached: its features, or with ``tune`` the weights of a copy of the generator
    instead. ``face``: which one of a photograph is aligned; None takes the largest, with a note if there are others.
    ``make_sketch`` (a style of ``pencils``) and ``make_labels``: pictures are photographs, which are drawn first.
    ``like``: a photograph whose ``rows`` the result takes, as much as ``alpha`` says; samples replace the same rows by
    new ones as much (None: see ``prepare.look`` and ``prepare.variation``). ``colours``: a file with the colour of each
    class of label maps, see ``SourceConfig.colours``.
    """

    task: str
    align: bool = True
    factor: int | None = None
    mask: str | Path | Image.Image | None = None
    keep_known: bool = False
    samples: int = 0
    rows: str | None = None
    seed: int = 0
    alpha: float | None = None
    refine: int | None = None
    detail: bool = True
    budget: float | None = None
    target: float | None = None
    tune: bool = False
    face: Choice | None = None
    make_sketch: Style | None = None
    make_labels: bool = False
    like: str | Path | None = None
    colours: str | None = None

    @property
    def makes_source(self) -> bool:
        """Whether pictures are photographs that a task of drawings draws first."""
        return self.make_labels or self.make_sketch is not None

    @property
    def mask_file(self) -> Path | None:
        """The file of the mask, if it is one."""
        if self.mask is None or isinstance(self.mask, Image.Image) or str(self.mask) in MASKS:
            return None
        return Path(self.mask)

    def opened(self) -> "Request":
        """The same with a mask that is a picture in black and white, its file read; transparent parts are white.

        Raises ImageError.
        """
        if isinstance(self.mask, Image.Image):
            picture = images.to_rgb(self.mask)
        elif self.mask_file is not None:
            picture = images.load(self.mask_file)
        else:
            return self
        return replace(self, mask=picture.convert("L").point(lambda level: 255 * (level > 127)))

    def random(self) -> torch.Generator:
        """A new generator with the request's seed."""
        return seeded(self.seed)

    def require_square(self, config: ModelConfig) -> None:
        """Raise ConfigError for a model of wide pictures."""
        if config.encoder.input_height:
            raise ConfigError(
                f"{self.task} makes square pictures, and this model reads wide ones: choose another --model"
            )


def parse_seeds(text: str) -> list[int]:
    """Seeds as ``1,2,3`` or ``1-3``, each once. Raises ConfigError for other words and more than ``MOST_SEEDS``."""
    chosen: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"(-?\d{1,18})(?:-(\d{1,18}))?", part.strip(), re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < first + MOST_SEEDS:
            raise ConfigError(f"--seed is a number or up to {MOST_SEEDS}, as 1,2,3 or 1-3; not {text!r}")
        chosen |= dict.fromkeys(range(first, last + 1))
    if len(chosen) > MOST_SEEDS:
        raise ConfigError(f"--seed takes up to {MOST_SEEDS} numbers, not {len(chosen)}")
    return list(chosen)


@dataclass(frozen=True)
class Frame:
    """The square of a picture that is used: an aligned face's ``quad`` [4 2], or the middle square (None).

    ``side`` is its length in pixels of the picture, ``landmarks`` [5 2] are those of the face.
    """

    quad: Points | None
    side: int
    landmarks: Points | None = None

    @staticmethod
    def around(landmarks: Points) -> "Frame":
        """The crop of a face with these landmarks [5 2]."""
        quad = ffhq_quad(landmarks)
        return Frame(quad, max(1, round(math.dist(quad[0], quad[3]))), landmarks)

    @staticmethod
    def middle(image: Image.Image) -> "Frame":
        """The largest square around the middle."""
        return Frame(None, min(image.size))

    def places(self) -> Points:
        """The face's landmarks [5 2] in units of the square's side; those of an aligned face where none was found."""
        return ALIGNED if self.quad is None or self.landmarks is None else in_square(self.landmarks, self.quad)

    def corners(self, size: tuple[int, int]) -> Points:
        """The quad [4 2] of this square in a picture of ``size`` (width, height), as ``faces.align`` gives quads."""
        if self.quad is not None:
            return self.quad
        left, top = ((length - self.side) / 2 - 0.5 for length in size)
        right, bottom = left + self.side, top + self.side
        return np.array([[left, top], [left, bottom], [right, bottom], [right, top]])

    def cut(
        self, image: Image.Image, size: int, height: int | None = None, method: Resampling = Resampling.LANCZOS
    ) -> Image.Image:
        """This square of a picture as RGB, ``size`` pixels wide; with ``height``, the middle of that height.

        A face's quad is resampled as in FFHQ, the middle square by ``method``.
        """
        shape = (size, size if height is None else height)
        if self.quad is None:
            return ImageOps.fit(image.convert("RGB"), shape, method)
        square = crop(image, self.quad, size)
        return square if square.size == shape else ImageOps.fit(square, shape, Resampling.LANCZOS)


@dataclass(frozen=True)
class Photograph:
    """A user's photograph, upright and RGB, the frame that is used, and what the user gave: a file or a picture."""

    picture: Image.Image
    frame: Frame
    given: Image.Image | Path

    def cut(self, size: int, height: int | None = None, method: Resampling = Resampling.LANCZOS) -> Image.Image:
        """The frame, as ``Frame.cut``."""
        return self.frame.cut(self.picture, size, height, method)

    def reduced(self, whole: Image.Image, shape: tuple[int, int]) -> Image.Image:
        """What was cut as ``whole``, with the width and height ``shape``, bicubically as pictures of training are.

        The middle square is resampled from the photograph, only once, so that a small one keeps its own pixels.
        """
        if self.frame.quad is None and whole.size != shape:
            return self.cut(*shape, Resampling.BICUBIC)
        return whole.resize(shape, Resampling.BICUBIC)

    def stretches(self, mask: Image.Image) -> tuple[str, ...]:
        """A note where a mask has another shape than the photograph over which it is laid."""
        (width, height), (over, down) = self.picture.size, mask.size
        rounding = max(width, height, STRETCHED * over * height)  # a pixel of the mask, or more of a large one
        if abs(over * height - down * width) <= rounding:
            return ()
        return (f"has {width} x {height} pixels, and the mask {over} x {down}, another shape: it was stretched",)

    def own(self) -> Image.Image:
        """What the user gave, upright, in its own mode. Raises ImageError."""
        return self.given if isinstance(self.given, Image.Image) else images.load_raw(self.given)

    def transparent(self) -> Image.Image:
        """The transparent part, white on black. Raises ImageError if there is none."""
        raw = self.own()
        alpha = raw.convert("RGBA").getchannel("A") if raw.has_transparency_data else Image.new("L", raw.size, 255)
        if alpha.getextrema()[0] == 255:
            name = "the picture" if isinstance(self.given, Image.Image) else self.given
            raise ImageError(
                f"nothing is hidden in {name}: give --mask {', '.join(MASKS)} or a file, or make it transparent"
            )
        return alpha.point(lambda level: 255 * (level < 255))


@dataclass(frozen=True)
class Prepared:
    """A user's picture, ready for the encoder: ``source`` [c s s], and ``picture``, the same for people.

    ``degradation`` does to drawn pictures [b 3 256 256] what was done to the source, before the two are compared; None
    if nothing was. ``kept`` [1 r r], from 0 to 1, says how much of each pixel of ``target`` [3 r r] is put back,
    and drawn pixels beside them get colours that continue theirs. ``hidden`` [1 r r] is 1 where the source does not
    show the photograph, None where it shows all of it.
    ``notes`` are what a user should know of the photograph, sentences without a subject. ``photograph`` is what the
    picture was cut from; None for files of sources.
    """

    source: Tensor
    picture: Image.Image
    degradation: Callable[[Tensor], Tensor] | None = None
    target: Tensor | None = None
    kept: Tensor | None = None
    hidden: Tensor | None = None
    notes: tuple[str, ...] = ()
    photograph: Photograph | None = None

    @property
    def wanted(self) -> Tensor:
        """What an inversion is to draw, [3 h r]: the picture, or the source where the photograph has no more pixels."""
        if self.photograph is not None and self.photograph.frame.side <= self.source.shape[-1]:
            return self.source
        return images.to_tensor(self.picture)

    def finish(self, drawn: Tensor, rows: Tensor | None = None) -> Image.Image:
        """The result of a drawn picture [3 r r]: known pixels are put back if they are to be kept.

        ``rows`` [3 s s] is what rows alone draw, if ``drawn`` is drawn from features, too.
        """
        if self.target is None or self.kept is None:
            return images.to_picture(drawn)
        drawn = seam.matched(drawn.to(self.target), self.target, self.kept, rows)
        return images.to_picture(self.kept * self.target + (1 - self.kept) * drawn)
