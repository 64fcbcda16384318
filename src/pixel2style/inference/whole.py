"""Results put back into their whole photographs.

Axes: ``r`` the generator's side.
"""

import torch
from PIL import Image

from .. import images
from ..editing import regions
from ..errors import ConfigError
from ..faces.align import paste_back
from ..metrics.attributes import FaceAttributes
from ..tasks import seam
from ..tasks.request import Photograph

FEATHER = 0.08
"""Width of the transition at the edges of the aligned square, in its sides."""


def pasted(
    drawn: Image.Image,
    aligned: Image.Image,
    photograph: Photograph | None,
    networks: FaceAttributes,
    onto: Image.Image | None = None,
) -> Image.Image:
    """The photograph, or ``onto``, with the region of the head from ``drawn``, which replaces ``aligned``.

    Both are squares of the face. The region covers the head of both; colours at its edge continue those of the
    photograph (``tasks.seam``). Raises ConfigError where there is no photograph, or for wide pictures.
    """
    if photograph is None:
        raise ConfigError("results are pasted into photographs, and this one was made of another file")
    if drawn.width != drawn.height:
        raise ConfigError("wide pictures are not pasted back: leave --paste out")
    before, after = (
        images.to_tensor(picture.resize(drawn.size, Image.Resampling.LANCZOS)) for picture in (aligned, drawn)
    )
    both = torch.stack([before, after])
    head, face = (regions.mask(name, both, networks) for name in ("head", "face"))
    matched = seam.matched(after, before, 1 - images.resize(head[None], drawn.width)[0])
    mask = torch.maximum(face, head * regions.changed(before, matched))
    picture = photograph.picture if onto is None else onto
    quad = photograph.frame.corners(picture.size)
    return paste_back(picture, images.to_picture(matched), quad, FEATHER, images.to_picture(2 * mask - 1))
