"""Photographs as sketches, drawn by filters and by the regions of a face, and sketches as somebody else draws them.

A ``Pen`` says how to draw; ``sketch`` takes a random one, so that an encoder meets many hands.

Axes: ``b`` batch, ``h w`` and ``s`` sides. Lengths are in pixels of a picture of 256 and grow with the picture.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..ops import blurred
from .degrade import between, choose, luma, often, whole

Style = Literal["pencil", "lines", "shaded", "outline"]
STYLES: tuple[Style, ...] = get_args(Style)
WIDTHS = (0.5, 12.0)
"""The thinnest and the thickest line."""
REACHES = (2.0, 6.0)
"""How far lines are looked for by ``disagreement``: standard deviations of a blur."""
_LEAST = 1e-3
"""Length below which blurred lines count as none."""
_UNIT = 256


@dataclass(frozen=True)
class Pen:
    """How a sketch is drawn.

    ``style``: "pencil" (hatching that follows the light), "lines" (contours), "shaded" (contours over soft tone) or
    "outline" (the borders of the face's regions: a simple drawing). ``width`` is that of a line. Raises ConfigError
    for others.
    """

    style: Style = "lines"
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ConfigError(f"there is no sketch {self.style}: choose {', '.join(STYLES[:-1])} or {STYLES[-1]}")
        if not WIDTHS[0] <= self.width <= WIDTHS[1]:
            raise ConfigError(f"a line is {WIDTHS[0]:g} to {WIDTHS[1]:g} pixels of 256 wide, not {self.width:g}")


def draw(images: Tensor, pen: Pen) -> Tensor:
    """Photographs of aligned faces ``[... 3 s s]`` in [-1, 1] as sketches: ``[... 1 s s]`` in [0, 1], 1 is paper."""
    gray, unit = luma(images), images.shape[-1] / _UNIT
    if pen.style == "outline":
        return _outline(_regions(images), unit, pen.width, 0.9)
    if pen.style == "pencil":
        return _dodged(gray, unit * 0.7, unit * (2 + 3 * pen.width), 2.4)
    lines = thicker(_contours(gray, unit * (0.4 + 0.35 * pen.width), 30, 0.015, 0.95), 0.5 * (pen.width - 1))
    return lines * _tone(gray, unit * 3, 0.4) if pen.style == "shaded" else lines


def sketch(images: Tensor, style: str, rng: torch.Generator) -> Tensor:
    """Photographs ``[... 3 s s]`` in [-1, 1] as sketches ``[... 1 s s]`` in a style of ``Pen``.

    Thickness, darkness and softness of the lines are random, to cover drawings by hand. Raises ConfigError for another
    style.
    """
    gray = luma(images)
    unit = images.shape[-1] / _UNIT
    if style == "pencil":
        return _dodged(gray, unit * between(0.5, 0.9, rng), unit * between(2, 9, rng), between(1.2, 3.5, rng))
    if style == "outline":
        return _outline(_regions(images), unit, between(0.7, 3.5, rng), between(0.5, 1, rng))
    fine, gain, threshold = unit * between(0.5, 1.5, rng), between(15, 40, rng), between(0.01, 0.03, rng)
    lines = _contours(gray, fine, gain, threshold, between(0.7, 1.0, rng))
    if style == "lines":
        return lines
    if style == "shaded":
        return lines * _tone(gray, unit * between(1.5, 5, rng), between(0.2, 0.55, rng))
    raise ConfigError(f"there is no sketch {style}: choose {', '.join(STYLES[:-1])} or {STYLES[-1]}")


def by_hand(drawing: Tensor, rng: torch.Generator) -> Tensor:
    """A sketch ``[1 s s]`` as another hand draws it: at times thicker, without grays, crooked or incomplete."""
    unit = drawing.shape[-1] / _UNIT
    if often(0.3, rng):
        drawing = thicker(drawing, between(0.5, 4, rng))
    if often(0.15, rng):
        drawing = (drawing > between(0.4, 0.8, rng)).to(drawing)
    if often(0.4, rng):
        drawing = crooked(drawing, between(0.5, 3, rng), rng)
    if often(0.3, rng):
        places = F.interpolate(torch.randn(1, 1, 6, 6, generator=rng), drawing.shape[-2:], mode="bicubic")[0]
        kept = blurred((places < between(0.6, 1.6, rng)).float(), 2 * unit).to(drawing)
        drawing = 1 - (1 - drawing) * kept
    return drawing.clamp(0, 1)


def disagreement(images: Tensor, drawing: Tensor) -> Tensor:
    """How little the lines of aligned faces agree with a sketch ``[1 s s]``: ``[b 3 h w] -> [b]``, from 0 to 2.

    It is 1 less the correlation of blurred lines, with a gradient, mean of two scales. A face's lines are its contours
    and the borders of its regions, each as strong as fits the sketch best: it is not known which ones somebody drew.
    """
    from ..metrics import parsing

    borders = parsing.borders(images)
    with torch.autocast(images.device.type, enabled=False):  # lines are small differences
        lines, size = 1 - draw(images.float(), Pen("lines")), images.shape[-2:]
        borders = F.interpolate(borders, size, mode="bilinear", align_corners=False)
        return _apart(lines, borders, F.interpolate(1 - drawing[None].to(lines), size, mode="area"))


def _apart(lines: Tensor, borders: Tensor, wanted: Tensor) -> Tensor:
    """``disagreement`` of two kinds of lines ``[b 1 h w]`` with those that are ``wanted [1 1 h w]``: ``[b]``."""
    losses = []
    for reach in REACHES:
        target = _profile(wanted, reach)
        both = torch.stack([_profile(lines, reach), _profile(borders, reach)], 1)
        together = both @ both.mT + 1e-4 * torch.eye(2).to(both)
        along = both @ target[..., None]
        shares = torch.linalg.solve(together, along).detach()
        best = F.one_hot(along.argmax(1), 2).mT.to(shares)  # of both only one fits
        shares = torch.where((shares > 0).all(1, keepdim=True), shares, best)
        losses.append(1 - (F.normalize((shares * both).sum(1), dim=1, eps=_LEAST) * target).sum(1))
    return torch.stack(losses).mean(0)


def _profile(lines: Tensor, reach: float) -> Tensor:
    """Lines ``[b 1 h w]``, blurred, with zero mean and unit length: ``[b h*w]``."""
    soft = blurred(lines, reach * lines.shape[-1] / _UNIT).flatten(1)
    return F.normalize(soft - soft.mean(1, keepdim=True), dim=1, eps=_LEAST)


def thicker(drawing: Tensor, width: float) -> Tensor:
    """A sketch ``[... 1 s s]`` with lines wider by ``width``; unchanged where that is less than a pixel of its own."""
    reach = round(width * drawing.shape[-1] / _UNIT / 2)
    if reach < 1:
        return drawing
    flat = drawing.reshape(-1, 1, *drawing.shape[-2:])
    for turn in range(reach):  # cross and square in turn, for a round brush
        flat = -F.max_pool2d(-flat, 3, 1, 1) if turn % 2 else -torch.maximum(*_crosses(-flat))
    return flat.reshape(drawing.shape)


def crooked(picture: Tensor, amount: float, rng: torch.Generator, mode: str = "bilinear") -> Tensor:
    """A picture ``[c s s]`` bent at random by ``amount``, a standard deviation."""
    side, cells = picture.shape[-1], whole(6, 32, rng)
    bend = F.interpolate(torch.randn(1, 2, cells, cells, generator=rng), (side, side), mode="bicubic")
    straight = F.affine_grid(torch.eye(2, 3)[None], [1, 1, side, side], align_corners=False)
    grid = straight + bend.permute(0, 2, 3, 1) * (2 * amount / _UNIT)
    moved = F.grid_sample(picture[None].float(), grid.to(picture.device), mode, "border", align_corners=False)
    return moved[0].to(picture)


def _crosses(maps: Tensor) -> tuple[Tensor, Tensor]:
    return F.max_pool2d(maps, (3, 1), 1, (1, 0)), F.max_pool2d(maps, (1, 3), 1, (0, 1))


def _dodged(gray: Tensor, fine: float, wide: float, power: float) -> Tensor:
    """Colour dodge of a picture with its blurred negative: white where it is even, darker where it gets darker."""
    near, far = blurred(gray, fine), blurred(gray, wide)  # the first blur removes the camera's grain
    return ((near + 0.02) / (far + 0.02)).clamp(0, 1) ** power


def _contours(gray: Tensor, fine: float, gain: float, threshold: float, darkness: float) -> Tensor:
    """Lines where a picture is darker than around it: a difference of Gaussians over local brightness, thresholded.

    After XDoG (Winnemöller et al., Computers & Graphics 2012, section 2), without its dark areas.
    """
    near, far = blurred(gray, fine), blurred(gray, 1.6 * fine)
    depth = (far - near) / (far + 0.15)
    return 1 - darkness * torch.tanh(gain * (depth - threshold).clamp(min=0))


def _tone(gray: Tensor, soft: float, depth: float) -> Tensor:
    """Light and shade of a picture, blurred and made pale."""
    return 1 - depth * (1 - blurred(gray, soft))


def _regions(images: Tensor) -> Tensor:
    """The regions ``[... 1 s s]`` of faces ``[... 3 s s]``."""
    from ..metrics import parsing

    found = parsing.regions(images.reshape(-1, *images.shape[-3:]))
    return found.reshape(*images.shape[:-3], 1, *images.shape[-2:])


def _outline(labels: Tensor, unit: float, width: float, darkness: float) -> Tensor:
    """The borders of regions ``[... 1 s s]`` as lines."""
    flat = labels.reshape(-1, 1, *labels.shape[-2:]).float()
    reach = max(1, round(width * unit / 2))
    window = 2 * reach + 1
    border = (F.max_pool2d(flat, window, 1, reach) != -F.max_pool2d(-flat, window, 1, reach)).float()
    return (1 - darkness * blurred(border, 0.45 * unit)).reshape(labels.shape)


def random_style(styles: tuple[str, ...], rng: torch.Generator) -> str:
    """One of ``styles``, the setting ``--source.sketches``. Raises ConfigError if there are none."""
    return choose(styles, rng, "sketches")
