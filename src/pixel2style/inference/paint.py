"""Rough paintings on a face: a patch, a part of another face, a colour (pSp, arXiv 2008.00951, section 4.4).

A painting is a square of the aligned face and a mask of what was painted. ``Session.paint`` encodes it and draws a face
from its rows where it was painted: they know what faces look like, so hard edges and flat colours become features.

Axes: ``r`` side of a square, ``s`` side of a mask.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from .. import images
from ..editing import regions
from ..errors import ConfigError, NoFaceError
from ..metrics.attributes import FaceAttributes
from ..tasks import seam
from ..tasks.request import Photograph
from . import whole
from .whole import Region

if TYPE_CHECKING:
    from .session import Result, Session

STEPS = 5
"""Newton steps towards the painting: after one, much of what is painted is missing still."""
GROWN = 6
"""By how many pixels of ``regions.SIDE`` the drawn region is larger than the painted one."""


@dataclass(frozen=True)
class Painting:
    """What is painted on a face; exactly one of ``patch``, ``source`` and ``fill``.

    ``patch`` is laid on the photograph with its top left corner ``at`` (x, y), pixels of the photograph. In the region
    ``mask``, ``source`` puts what another photograph has there, ``fill`` a colour, such as "brown" or "#402010".
    ``keep``, from 0 to 1, is how much of the painting's own detail is kept.
    """

    patch: Path | Image.Image | None = None
    at: tuple[int, int] | None = None
    mask: Region | None = None
    source: Path | Image.Image | None = None
    fill: str | None = None
    keep: float = 0.0

    def check(self) -> None:
        """Raise ConfigError where it is not clear what is to be painted, or in which colour."""
        ways = [self.patch is not None, self.source is not None, self.fill is not None]
        if sum(ways) != 1:
            raise ConfigError("paint with one of --patch PICTURE, --from PHOTO and --fill COLOUR")
        if self.patch is not None and (self.at is None or self.mask is not None):
            raise ConfigError(
                "--patch is laid at a place: give --at X,Y, the pixel of its top left corner, and no --mask"
            )
        if self.patch is None and (self.mask is None or self.at is not None):
            raise ConfigError(
                f"say where to paint with --mask: {', '.join(regions.NAMES)}, or a picture that is white there"
            )
        if self.fill is not None:
            colour_of(self.fill)
        if not 0 <= self.keep <= 1:
            raise ConfigError(f"--keep must be from 0 (a face from the painting) to 1 (the painting), not {self.keep}")

    def opened(self) -> "Painting":
        """The same, checked and with its pictures read, but for ``source``, which only must be one.

        Raises ConfigError as ``check`` and ``whole.opened`` do, ImageError for a file that is no picture.
        """
        self.check()
        if self.source is not None:
            _opened(self.source)
        patch = images.load_raw(self.patch) if isinstance(self.patch, Path) else self.patch
        return replace(self, patch=patch, mask=self.mask if self.mask is None else whole.opened(self.mask))


def painted(session: "Session", result: "Result", painting: Painting) -> "Result":
    """A face that was painted on, drawn again; see ``Session.paint``. Raises ConfigError, ImageError, NoFaceError."""
    painting.check()
    if painting.patch is not None and painting.at is not None:
        patch = painting.patch if isinstance(painting.patch, Image.Image) else images.load_raw(painting.patch)
        square, mask = patched(result.photograph, patch, painting.at, result.reconstruction.width)
        return session.paint(result, square, mask, painting.keep)
    assert painting.mask is not None
    region = whole.opened(painting.mask)
    result = replace(result, notes=result.notes + whole.doubts(region, result.photograph))
    mask = session.region(result, region)
    if painting.fill is not None:
        return session.paint(result, filled(result.aligned, mask, painting.fill), mask, painting.keep)
    assert painting.source is not None
    other = _face_of(session, painting.source)
    name = painting.mask if isinstance(painting.mask, str) else ""
    return session.paint(result, copied(result.aligned, other, mask, session.landmarks, name), mask, painting.keep)


def _face_of(session: "Session", given: Path | Image.Image) -> Image.Image:
    """The aligned face in a photograph. Raises NoFaceError with its name: it is not the one that is painted on."""
    try:
        return session.prepare(images.to_rgb(_opened(given)))
    except NoFaceError as error:
        raise error if isinstance(given, Image.Image) else NoFaceError(f"{given}: {error}") from error


def _opened(given: Path | Image.Image) -> Image.Image:
    return given if isinstance(given, Image.Image) else images.load(given)


def colour_of(text: str) -> tuple[int, int, int]:
    """Red, green and blue of a name of CSS or "#402010". Raises ConfigError."""
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise ConfigError(f"--fill {text} is no colour: give a name such as brown, or #402010") from error
    return red, green, blue


def filled(square: Image.Image, mask: Tensor, colour: str) -> Image.Image:
    """The square with a colour where ``mask`` [1 s s] is at least a half. Raises ConfigError for what is no colour."""
    made = square.copy()
    made.paste(colour_of(colour), (0, 0, *square.size), _stencil(mask, square.width))
    return made


def copied(
    square: Image.Image, other: Image.Image, mask: Tensor, networks: FaceAttributes, name: str = ""
) -> Image.Image:
    """The square with what another square of a face has where ``mask`` [1 s s] is at least a half.

    The other is moved, turned and scaled so that the landmarks of the region called ``name``, or all, fit best; its
    colours continue those at the edge (``tasks.seam``).
    """
    both = torch.stack(
        [images.to_tensor(one.resize((regions.SIDE,) * 2, Image.Resampling.BOX)) for one in (square, other)]
    )
    with torch.no_grad():
        places = networks.points(both).double().cpu().numpy()[:, regions.POINTS.get(name, slice(None))]
    here, there = places[..., 0] + 1j * places[..., 1]
    turn = np.vdot(here - here.mean(), there - there.mean()) / np.vdot(here - here.mean(), here - here.mean())
    shift = (there.mean() - turn * here.mean()) * other.width / regions.SIDE
    ratio = other.width / square.width
    matrix = (turn.real * ratio, -turn.imag * ratio, shift.real, turn.imag * ratio, turn.real * ratio, shift.imag)
    moved = other.transform(square.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    stencil = _stencil(mask, square.width)
    hard = images.to_mask(stencil)
    matched = seam.matched(images.to_tensor(moved), images.to_tensor(square), 1 - hard)
    made = square.copy()
    made.paste(images.to_picture(matched), (0, 0), stencil)
    return made


def patched(
    photograph: Photograph | None, patch: Image.Image, at: tuple[int, int], side: int
) -> tuple[Image.Image, Tensor]:
    """The square of ``side`` pixels with a patch on the photograph, top left at ``at`` (x, y), and its mask [1 s s].

    Transparent parts of the patch are not painted. Raises ConfigError where it does not touch the square of the face.
    """
    if photograph is None:
        raise ConfigError("a patch is laid on a photograph, and this result was made of another file")
    patch = patch.convert("RGBA")
    whole, mask = photograph.picture.copy(), Image.new("L", photograph.picture.size)
    whole.paste(patch, at, patch)
    mask.paste(patch.getchannel("A"), at)
    cut = images.to_mask(photograph.frame.cut(mask, regions.SIDE))
    if float(cut.amax()) < 0.5:
        width, height = photograph.picture.size
        raise ConfigError(
            f"a patch at {at[0]},{at[1]} does not touch the face in this photograph of {width} x {height} pixels: "
            "choose another --at"
        )
    return photograph.frame.cut(whole, side), cut


def _stencil(mask: Tensor, side: int) -> Image.Image:
    """Where a mask [1 s s] is at least a half: white, of ``side`` pixels."""
    wide = images.resize(mask[None], side)[0]
    return images.to_picture(wide.ge(0.5).float() * 2 - 1).convert("L")
