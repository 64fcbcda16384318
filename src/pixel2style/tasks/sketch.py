"""A pencil sketch to a face (pSp, section 4.3). Sketches are drawn from photographs, in several styles."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..config import LossConfig, ModelConfig, SourceConfig
from . import recipes
from .task import OTHER_FACES, OfficialDataset, Task, never

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from .request import Photograph, Prepared, Request

SIDE = 64
"""Of pictures that are looked at for doubts."""
PAPER, COLOURFUL = 0.8, 0.08
"""How light paper is, at least; the mean difference between the channels of what is no drawing."""
LOSS = LossConfig(l2=1, lpips=0.8, identity=0, w_norm=0.005)


def drawing(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """The target drawn in one of ``config.sketches``: ``[1 s s]`` in [0, 1], 1 is paper."""
    from . import pencils

    return pencils.sketch(target, pencils.random_style(config.sketches, rng), rng)


def doubts(picture: "Image.Image") -> tuple[str, ...]:
    """That a file is rather a photograph, or light on dark."""
    import numpy as np

    pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE))).astype(np.float32) / 255
    gray, colour = pixels.mean(2), pixels.max(2) - pixels.min(2)
    if (gray > PAPER).mean() < 0.5 and colour.mean() > COLOURFUL:
        return ("looks like a photograph, not like a sketch: see --make-sketch",)
    if (gray < 1 - PAPER).mean() > 0.5:
        return ("is light on dark, and sketches are dark on light: invert it",)
    return ()


def by_hand(source: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """A sketch ``[1 s s]`` as another hand draws it."""
    from . import pencils

    return pencils.by_hand(source, rng)


def agreement(source: "Tensor", config: SourceConfig) -> "Callable[[Tensor], Tensor]":
    """How little the lines of drawn pictures agree with a sketch."""
    from . import pencils

    return partial(pencils.disagreement, drawing=source)


def prepare(photograph: "Photograph", request: "Request", config: ModelConfig) -> "Prepared":
    """The photograph drawn in the style that the user asked for."""
    from .. import images
    from ..ops import COMPARE_SIZE
    from . import pencils
    from .request import Prepared

    face = images.to_tensor(photograph.cut(COMPARE_SIZE))
    source = pencils.draw(face, pencils.Pen(request.make_sketch or "lines"))
    return Prepared(source, images.to_picture(source * 2 - 1))


TASK = Task(
    "a pencil sketch to a face",
    presets=recipes.presets(
        "sketch", "pencil sketch -> face", recipes.paper("sketch", LOSS), recipes.compact("sketch", LOSS)
    ),
    channels=1,
    source=drawing,
    doubts=doubts,
    vary=by_hand,
    agreement=agreement,
    photograph=False,
    variation=OTHER_FACES,
    prepare=prepare,
    options={
        "make_sketch": "pictures are photographs: draw them as pencil, lines, shaded or outline first.",
        "like": "a photograph whose --rows (colours, light) the result takes.",
    },
    random=never,
    official=OfficialDataset("celebs_sketch_to_face", ("psp",)),
)
