"""Label maps: pictures whose numbers are classes, never interpolated.

The class of a pixel is the index in a palette picture, the value in a gray one, and the place in a table of colours in
a colour one. Maps are resized to the nearest pixel.

Axes: ``h w`` a map in its file, ``s`` the encoder's side, ``classes`` one channel each.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .. import images
from ..config import SourceConfig
from ..errors import ConfigError, ImageError
from ..metrics import parsing
from . import pencils
from .degrade import between, choose, often, whole

Classes = npt.NDArray[np.int64]

CELEBAMASK = "celebamask"
"""What stands for the colours of CelebAMask-HQ."""
_COLOUR = re.compile(r"#?([0-9a-f]{6})", re.IGNORECASE)
_SMALL = 0.1
"""Share of a map up to which a class may be left out of it."""
_NAMED = 5
"""How many wrong numbers or colours an error names; the rest is counted."""


def colour_table(source: SourceConfig) -> tuple[str, ...]:
    """The classes' colours, ``#rrggbb`` in order, read from a file (one a line) if ``source.colours`` names one.

    "celebamask" stands for those of CelebAMask-HQ.

    Empty if no colours are given. Raises ConfigError for a file that cannot be read, an entry that is no colour, a
    colour listed twice, and a table whose length is not ``source.classes``.
    """
    entries = source.colours
    if entries == (CELEBAMASK,):
        entries = parsing.PALETTE
    if len(entries) == 1 and not _COLOUR.fullmatch(entries[0]):
        entries = _listed(Path(entries[0]))
    table = tuple(_colour(entry) for entry in entries)
    for colour in table:
        if table.count(colour) > 1:
            raise ConfigError(f"{colour} is listed for two classes: give each class its own colour")
    if table and len(table) != source.classes:
        raise ConfigError(f"{len(table)} colours are listed for {source.classes} classes: make --source.classes fit")
    return table


def read(path: Path, side: int, source: SourceConfig) -> Tensor:
    """The label map in a file as ``[classes side side]``: 1 where a pixel is of the class, 0 elsewhere.

    Raises what ``classes_in`` does.
    """
    found = torch.from_numpy(nearest(classes_in(path, source), side))
    return one_hot(found, source.classes)


def one_hot(found: Tensor, classes: int) -> Tensor:
    """Classes ``[s s]`` as ``[classes s s]``: 1 where a pixel is of the class, 0 elsewhere."""
    return torch.zeros(classes, *found.shape, device=found.device).scatter_(0, found[None], 1.0)


def rough(source: Tensor, rng: torch.Generator) -> Tensor:
    """A map ``[classes s s]`` drawn less carefully: borders bent, in blocks, or some classes painted as another one.

    A class is lost to one beside it; what a person leaves out of a drawing is part of what surrounds it.
    """
    found = source.argmax(0, keepdim=True)
    if often(0.5, rng):
        found = pencils.crooked(found.float(), between(0.5, 3, rng), rng, "nearest").round().long()
    if often(0.15, rng):
        few = nearest(found[0].cpu().numpy(), whole(32, 96, rng))
        found = torch.from_numpy(nearest(few, source.shape[-1]))[None].to(source.device)
    if often(0.35, rng):
        for _ in range(whole(1, 3, rng)):
            found = _without_one(found, rng)
    return one_hot(found[0], len(source))


def _without_one(found: Tensor, rng: torch.Generator) -> Tensor:
    """Classes ``[1 s s]`` with a random one of the small ones that are there replaced by the one around it, mostly."""
    counts = torch.bincount(found.flatten())
    small = ((counts > 0) & (counts < _SMALL * found.numel())).nonzero()[:, 0].tolist()
    if not small:
        return found
    lost = choose(small, rng, "classes")
    inside = found == lost
    ring = F.max_pool2d(inside.float(), 5, 1, 2).bool() & ~inside
    around = found[ring]
    return torch.where(inside, around.mode().values, found) if len(around) else found


def classes_in(path: Path, source: SourceConfig) -> Classes:
    """The class of each pixel of the map in a file: ``[h w]``.

    Raises ImageError for a file that is no label map; also, with their names, for classes or colours that ``source``
    does not have.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise ImageError(f"{path} is a JPEG, whose numbers are not exact: export label maps as PNG")
    picture = images.load_raw(path)
    if picture.mode in ("RGB", "RGBA") and source.colours:
        return _by_colour(path, np.asarray(picture.convert("RGB")), source)
    found = _by_number(path, picture)
    if found.size and (found.max() >= source.classes or found.min() < 0):
        wrong = [str(number) for number in np.unique(found) if not 0 <= number < source.classes]
        raise ImageError(
            f"{path} holds {_several('class', wrong)}, and classes go from 0 to {source.classes - 1}: "
            "correct it, or train with more --source.classes"
        )
    return found


def snapped(picture: Image.Image, colours: Sequence[str]) -> Image.Image:
    """A colour picture as a map in gray: the number of each pixel is that of the nearest of ``colours`` (#rrggbb)."""
    table = np.array([tuple(bytes.fromhex(colour[1:])) for colour in colours], np.int64)
    kinds, inverse = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0, return_inverse=True)
    classes = np.square(kinds[:, None].astype(np.int64) - table).sum(2).argmin(1)
    return Image.fromarray(classes[inverse].reshape(picture.size[::-1]).astype(np.uint8))


def nearest(found: Classes, side: int) -> Classes:
    """``[h w] -> [side side]``: each pixel takes the class at its centre."""
    rows, columns = (((np.arange(side) + 0.5) * length / side).astype(np.int64) for length in found.shape)
    resized: Classes = found[rows[:, None], columns]
    return resized


def _by_number(path: Path, picture: Image.Image) -> Classes:
    values = np.asarray(picture.getchannel(0) if picture.mode in ("LA", "PA") else picture)
    if values.ndim == 3:
        if (values[..., :3] != values[..., :1]).any():
            raise ImageError(
                f"{path} is drawn in colours: list those of the classes with --colours (for train, --source.colours)"
            )
        values = values[..., 0]
    if not np.issubdtype(values.dtype, np.integer) and values.dtype != np.bool_:
        raise ImageError(f"{path} holds fractions, not classes: export label maps as PNG of 8 or 16 bits")
    return values.astype(np.int64)


def _by_colour(path: Path, pixels: npt.NDArray[np.uint8], source: SourceConfig) -> Classes:
    table = np.array([int(colour[1:], 16) for colour in colour_table(source)])
    order = np.argsort(table)
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    keys = red << 16 | green << 8 | blue
    found: Classes = order[np.searchsorted(table[order], keys).clip(max=len(table) - 1)]
    unknown = table[found] != keys
    if unknown.any():
        names = [f"#{key:06x}" for key in np.unique(keys[unknown])]
        raise ImageError(
            f"{path} holds {_several('colour', names)}, of none of the {source.classes} classes: correct it, or list "
            "the colours of its classes with --colours (for train, --source.colours)"
        )
    return found


def _several(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    plural = {"class": "classes"}.get(what, f"{what}s") if len(names) > 1 else what
    return f"{plural} {', '.join(names[:_NAMED])}{more}"


def _listed(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is neither a colour (#rrggbb) nor a file that lists colours: check it") from error
    return tuple(line.split()[0] for line in lines if line.strip())


def _colour(entry: str) -> str:
    match = _COLOUR.fullmatch(entry)
    if match is None:
        raise ConfigError(f"{entry} is not a colour: write #rrggbb, for example #ff8000")
    return f"#{match[1].lower()}"
