"""Inpainting: a picture with a hidden part to a whole one (pSp, section 4.4).

Hidden pixels are 0, and a fourth channel is the mask: 1 where a pixel is known. The paper released no model; losses are
those of super-resolution.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of a picture, ``s`` side of a source.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ..config import LossConfig, ModelConfig, SourceConfig
from . import recipes
from .task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .request import Photograph, Prepared, Request
    from .task import Degradation

LOSS = LossConfig(l2=1, lpips=0.8, identity=0.1, w_norm=0.005)
TOUCHED = 25
"""Of 255: how much of a pixel may come from hidden ones before it counts as hidden."""
SHARE = 0.001
"""Of hidden pixels in one of 256: with more it is hidden, too."""


def masked(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """The target with a part hidden, and the mask: ``[4 s s]``."""
    from . import degrade

    known = degrade.mask(degrade.choose(config.masks, rng, "masks"), target.shape[-1], rng)
    return degrade.hide(target, known)


def read(path: Path, side: int, config: SourceConfig) -> "Tensor":
    """A picture whose transparent parts are hidden: ``[4 side side]``; every other part is known."""
    import numpy as np
    import torch
    from PIL import Image

    from .. import images
    from . import degrade

    picture = images.load_raw(path).convert("RGBA").resize((side, side), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    return degrade.hide(pixels[:3] / 127.5 - 1, (pixels[3:] > 254).float())


def prepare(photograph: "Photograph", request: "Request", config: ModelConfig) -> "Prepared":
    """The aligned photograph at 256 pixels with a part hidden: by a mask, drawn or from a file, or by transparency."""
    from PIL import Image

    from .. import images
    from ..models import input_channels
    from . import degrade, face_masks
    from .request import Prepared

    size, notes = config.generator.size, tuple[str, ...]()
    if request.mask is None or isinstance(request.mask, Image.Image):
        hidden = photograph.transparent() if request.mask is None else request.mask
        notes = photograph.stretches(hidden)
        hidden = hidden.resize(photograph.picture.size, Image.Resampling.NEAREST)
        level = images.to_tensor(photograph.frame.cut(hidden, size))[:1].add(1).mul(127.5)
        known = (level <= TOUCHED).float()
    else:
        known = face_masks.mask(str(request.mask), size, photograph.frame.places(), request.random())
    target = images.to_tensor(photograph.cut(size))
    source = degrade.hide(*_reduced(target, known))

    def hide(drawn: "Tensor") -> "Tensor":
        return drawn * source[3:].to(drawn).clone()

    picture = images.to_picture(input_channels.to_rgb(source[None], classes=False)[0])
    if not request.keep_known:
        return Prepared(source, picture, hide, hidden=1 - known, notes=notes)
    return Prepared(source, picture, hide, target, degrade.soften(known), 1 - known, notes)


def _reduced(target: "Tensor", known: "Tensor") -> "tuple[Tensor, Tensor]":
    """A picture ``[3 r r]`` and its mask ``[1 r r]`` at 256 pixels, as sharp as those of training (bicubic).

    Hidden pixels contribute nothing, and what would have had a share of one is hidden, too.
    """
    import torch

    from ..images import resize
    from ..ops import COMPARE_SIZE

    small = resize(torch.cat([target * known, known])[None], COMPARE_SIZE, "bicubic")[0]
    return small[:3].clamp(-1, 1), ((small[3:] - 1).abs() < SHARE).float()


def degraded(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "tuple[Tensor, Degradation]":
    """``masked``, and what hides the same pixels."""
    source = masked(target, rng, config)
    return source, lambda pictures: pictures * source[3:]


def shown(sources: "Tensor", drawn: "Tensor", degradation: "Degradation | None") -> "Tensor":
    """The known pixels of sources ``[b 4 s s]``, and drawn pictures with continued colours elsewhere: ``[b 3 s s]``.

    At the border of the hidden part the difference between the two continues smoothly, so that it shows no edge.
    """
    from ..images import resize
    from .degrade import continued

    known, drawn = sources[:, 3:], resize(drawn, sources.shape[-1])
    difference = (sources[:, :3] - drawn) * known
    return (drawn + difference + continued(difference, known) * (1 - known)).clamp(-1, 1)


def is_random(request: "Request") -> bool:
    """Whether the mask is drawn."""
    from . import degrade

    return request.mask in degrade.MASKS


def check_request(request: "Request", config: ModelConfig) -> None:
    """Masked pictures are squares."""
    request.require_square(config)


TASK = Task(
    "a picture with a hidden part to a whole one",
    presets=recipes.presets(
        "inpaint",
        "picture with holes -> whole picture",
        recipes.paper("inpaint", LOSS),
        recipes.compact("inpaint", LOSS),
    ),
    channels=4,
    values="RGB in [-1, 1], 0 where it is hidden, then 1 where it is known and 0 where it is hidden",
    refinable=True,
    shown=shown,
    degraded=degraded,
    source=masked,
    read=read,
    prepare=prepare,
    options={
        "mask": "what to fill: mouth, eyes, nose, face, left, right, top, bottom (of the face, as seen); box, half or "
        "strokes, drawn at random over the face; or a picture, white is filled. Left out: whatever is transparent.",
        "keep_known": "put the known pixels back at full size, with a soft seam; filled pixels beside them get colours "
        "that continue theirs.",
    },
    random=is_random,
    check_request=check_request,
)
