"""Regions of a photograph, and results put back into it.

Axes: ``r`` the generator's side.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import images
from ..editing import regions
from ..errors import ConfigError
from ..faces.align import paste_back
from ..metrics.attributes import FaceAttributes
from ..tasks import seam
from ..tasks.request import Photograph

Region = str | Path | Image.Image
"""A name of ``editing.regions.NAMES``, or a mask of the photograph, white where the region is, or a file of one."""
MASK_SOFT = 1.5
"""Standard deviation of the blur of a mask's edge, in pixels of ``regions.SIDE``."""
MASK_GROWN = 2
"""By how many pixels of ``regions.SIDE`` more is pasted than was hidden."""
MARGIN = 5
"""By how many pixels of ``regions.SIDE`` more is pasted than the person."""
FEATHER = 0.08
"""Width of the transition at the edges of the aligned square, in its sides."""


def pasted(
    drawn: Image.Image,
    aligned: Image.Image,
    photograph: Photograph | None,
    networks: FaceAttributes,
    onto: Image.Image | None = None,
    hidden: Tensor | None = None,
) -> Image.Image:
    """The photograph, or ``onto``, with the region of the head from ``drawn``, which replaces ``aligned``.

    Both are squares of the face. What is pasted is the person in either of them, without clothes: the face, and what
    visibly differs; so its edge lies where the two are alike, or in the surroundings. Colours there continue those of
    the photograph (``tasks.seam``). All that is ``hidden`` [1 r r] in ``aligned`` is pasted, too. A photograph that is
    transparent somewhere stays so, but for what was hidden and is filled. Raises ConfigError where there is no
    photograph, or for wide pictures.
    """
    if photograph is None:
        raise ConfigError("results are pasted into photographs, and this one was made of another file")
    if drawn.width != drawn.height:
        raise ConfigError("wide pictures are not pasted back: leave --paste out")
    before, after = (
        images.to_tensor(picture.resize(drawn.size, Image.Resampling.LANCZOS)) for picture in (aligned, drawn)
    )
    both = torch.stack([before, after])
    face, behind = (regions.mask(name, both, networks) for name in ("face", "surroundings"))
    person = regions.softened(regions.grow(1 - behind[None], MARGIN))[0]
    filled = torch.zeros_like(person)
    if hidden is not None:
        filled = regions.softened(regions.grow(images.resize(hidden[None], regions.SIDE), MASK_GROWN), MASK_SOFT)[0]
    kept = 1 - images.resize(torch.maximum(person, filled)[None], drawn.width)[0]
    matched = seam.matched(after, before, kept)
    mask = torch.maximum(person * torch.maximum(face, regions.changed(before, matched)), filled)
    base = photograph.own() if onto is None else onto
    picture = photograph.picture if onto is None else images.to_rgb(onto)
    quad = photograph.frame.corners(picture.size)
    made = paste_back(picture, images.to_picture(matched), quad, FEATHER, images.to_picture(2 * mask - 1))
    if not base.has_transparency_data:
        return made
    base = base.convert("RGBA")
    opaque = paste_back(
        base.getchannel("A"), Image.new("L", drawn.size, 255), quad, FEATHER, images.to_picture(2 * filled - 1)
    )
    return _with_alpha(made, picture, base, opaque.convert("L"))


def _with_alpha(made: Image.Image, before: Image.Image, base: Image.Image, alpha: Image.Image) -> Image.Image:
    """The RGBA picture ``base``, which is ``before`` on white, changed so that it is ``made`` on white.

    Pixels in which the two are alike stay as they are; others get ``alpha``.
    """
    after, seen = (np.asarray(picture).astype(np.float32) for picture in (made, before))
    opacity = np.asarray(alpha).astype(np.float32)[..., None] / 255
    changed = (after != seen).any(2, keepdims=True) & (opacity > 0)
    colours = 255 + (after - 255) / np.maximum(opacity, 1 / 255)
    pixels = np.concatenate([colours, 255 * opacity], axis=2).round().clip(0, 255)
    result = Image.fromarray(np.where(changed, pixels, np.asarray(base)).astype(np.uint8))
    result.info = base.info
    return result


def opened(wanted: Region) -> Region:
    """A region by its name, or as a picture: its file is read, its transparent parts are white.

    Raises ConfigError for a word that is neither a name nor a file, ImageError for a file that is no picture.
    """
    if isinstance(wanted, Image.Image):
        return images.to_rgb(wanted)
    if wanted in regions.NAMES:
        return wanted
    if isinstance(wanted, str) and not os.path.isfile(wanted):  # noqa: PTH113 (Path.is_file raises for long names)
        raise ConfigError(
            f"there is no region and no file {wanted!r}: choose one of {', '.join(regions.NAMES)}, or a picture of it"
        )
    return images.load(Path(wanted))


def doubts(wanted: Region, photograph: Photograph | None) -> tuple[str, ...]:
    """A note where a mask (``opened``) has another shape than the photograph."""
    return photograph.stretches(wanted) if photograph and isinstance(wanted, Image.Image) else ()


def region(
    wanted: Region, pictures: Sequence[Image.Image], photograph: Photograph | None, networks: FaceAttributes
) -> Tensor:
    """How much of each pixel of an aligned square is in a region: ``[1 s s]``, from 0 to 1.

    One with a name is the union of those in ``pictures``, squares of one face; a mask is cut as the photograph was.
    Raises as ``opened`` does, and ConfigError for a mask of what is no photograph.
    """
    given = opened(wanted)
    if not isinstance(given, Image.Image):
        side = regions.SIDE
        squares = [images.to_tensor(one.resize((side, side), Image.Resampling.BOX)) for one in pictures]
        return regions.mask(str(given), torch.stack(squares), networks)
    if photograph is None:
        raise ConfigError("a mask is one of a photograph, and this result was made of another file")
    whole_mask = given.convert("L").resize(photograph.picture.size, Image.Resampling.BILINEAR)
    cut = images.to_mask(photograph.frame.cut(whole_mask, regions.SIDE))
    return regions.softened(cut[None], MASK_SOFT)[0]
