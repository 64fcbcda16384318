"""Regions of an aligned face as soft masks: the eyes, the mouth, the hair, the background.

Parts of a face follow 68 landmarks (iBUG 300-W) that ``metrics.attributes`` finds; skin, hair, clothes and background
are classes of ``metrics.parsing``. Of several pictures, such as one before and one after an edit, a region is the
union, so that it holds what was there and what is there now.

Axes: ``b`` pictures, ``s`` side of a mask, ``h w`` sides of a picture.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import ConfigError
from ..metrics import parsing
from ..metrics.attributes import FaceAttributes
from ..ops import blurred

SIDE = 256
"""Side of masks, in pixels; landmarks are in pixels of pictures of this size."""
SOFT = 3.0
"""Standard deviation of the blur of an edge, in pixels of a mask."""
LEAST, MOST = 0.04, 0.12
"""Differences in [-1, 1] below which a pixel counts as unchanged, and above which as changed."""
Points = NDArray[np.float64]
Polygons = list[Points]

JAW, BROWS = slice(0, 17), slice(17, 27)
LEFT_BROW, RIGHT_BROW, LEFT_EYE, RIGHT_EYE = slice(17, 22), slice(22, 27), slice(36, 42), slice(42, 48)
NOSE, LIPS = slice(27, 36), slice(48, 60)
FOREHEAD = 0.55
"""How far the skin reaches above the brows, in distances from brows to the tip of the nose."""
HEAD = (0.72, 0.75)
"""Half axes of the ellipse around a head, in widths of the jaw and in heights from chin to forehead."""


def _up(points: Points) -> Points:
    """From the tip of the nose to the middle of the brows."""
    return np.asarray(points[BROWS].mean(0) - points[30])


def _face(points: Points) -> Polygons:
    """The jaw, and the forehead as an arc above the brows."""
    forehead = points[BROWS][::-1] + FOREHEAD * _up(points) * np.sin(np.linspace(0.5, np.pi - 0.5, 10))[:, None]
    return [np.concatenate([points[JAW], forehead])]


def _head(points: Points) -> Polygons:
    """Around the face and most of the hair."""
    chin, top = points[8], points[BROWS].mean(0) + FOREHEAD * _up(points)
    centre, down = (chin + top) / 2, chin - top
    down = down / np.hypot(*down)
    across = np.array([-down[1], down[0]])
    angles = np.linspace(0, 2 * np.pi, 90)[:, None]
    long, wide = HEAD[1] * np.hypot(*(chin - top)), HEAD[0] * np.hypot(*(points[16] - points[0]))
    return [centre + across * wide * np.cos(angles) + down * long * np.sin(angles)]


SHAPES: Mapping[str, Callable[[Points], Polygons]] = {
    "eyes": lambda p: [np.concatenate([p[LEFT_BROW], p[LEFT_EYE]]), np.concatenate([p[RIGHT_BROW], p[RIGHT_EYE]])],
    "nose": lambda p: [p[NOSE]],
    "mouth": lambda p: [p[LIPS]],
    "face": _face,
    "head": _head,
}
"""The polygons of each region."""
GROWN = {"eyes": 7, "nose": 9, "mouth": 8, "face": 6, "head": 0}
"""By how many pixels it is grown."""
POINTS = {"eyes": [*range(17, 27), *range(36, 48)], "nose": list(range(27, 36)), "mouth": list(range(48, 68))}
"""The landmarks of some regions."""
PARSED: Mapping[str, tuple[str, ...]] = {
    "skin": ("skin", "nose", "left ear", "right ear", "neck"),
    "hair": ("hair",),
    "clothes": ("cloth", "necklace"),
    "background": ("background",),
    "surroundings": ("background", "cloth", "necklace"),
}
"""Classes of ``metrics.parsing`` that make a region."""
SHARED = ("background", "surroundings")
"""Regions that are, of several pictures, what all have: a person who moves covers more of them."""
SPECK = 3
"""Half the side of squares below which parsed regions are taken for mistakes, in pixels of a mask."""
NAMES = (*SHAPES, *PARSED)
"""All regions that have names."""


def mask(name: str, pictures: Tensor, networks: FaceAttributes) -> Tensor:
    """How much of each pixel is in a region of the aligned faces ``[b 3 h w]``, all of one person: ``[1 s s]``, 0 to 1.

    Exactly 0 outside. Raises ConfigError for a name that is not in ``NAMES``.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no region {name!r}: choose one of {', '.join(NAMES)}, or give a picture of it")
    small = F.interpolate(pictures, (SIDE, SIDE), mode="area")
    if name in PARSED:
        return _parsed(name, small)
    with torch.no_grad():
        points = networks.points(small).double().cpu().numpy()
    sheet = Image.new("L", (SIDE, SIDE))
    brush = ImageDraw.Draw(sheet)
    for own in points:
        for polygon in SHAPES[name](own):
            brush.polygon([(float(x), float(y)) for x, y in polygon], fill=255, outline=255)
    filled = torch.from_numpy(np.array(sheet)).float().div(255)[None, None]
    return softened(grow(filled, GROWN[name]))[0]


def _parsed(name: str, pictures: Tensor) -> Tensor:
    """The union of a parsed region in pictures ``[b 3 s s]``, for ``SHARED`` ones what is in all: ``[1 s s]``."""
    found = parsing.regions(pictures)
    classes = torch.tensor([parsing.CLASSES.index(own) for own in PARSED[name]], device=found.device)
    each = torch.isin(found, classes)
    hard = (each.all(0) if name in SHARED else each.any(0)).float()[None, None].cpu()
    opened = grow(1 - grow(1 - hard, SPECK), SPECK)
    return softened(grow(opened, 0 if name in SHARED else 1), SOFT / 2)[0]


def grow(hard: Tensor, reach: int) -> Tensor:
    """A mask ``[1 1 s s]`` with all within ``reach`` pixels of it."""
    return F.max_pool2d(hard, 2 * reach + 1, 1, reach) if reach else hard


def softened(hard: Tensor, deviation: float = SOFT) -> Tensor:
    """A mask ``[1 1 s s]`` with a soft edge, outside of which it is 0."""
    return blurred(hard, deviation).clamp(0, 1)


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Where two pictures ``[3 h w]`` differ visibly: ``[1 s s]``, 0 to 1, with a soft edge."""
    one, other = (F.interpolate(picture[None], (SIDE, SIDE), mode="area") for picture in (before, after))
    difference = blurred((one - other).abs().mean(1, keepdim=True), SOFT)
    return softened(grow(((difference - LEAST) / (MOST - LEAST)).clamp(0, 1), 4), 4.0)[0]
