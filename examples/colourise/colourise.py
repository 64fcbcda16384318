"""A task of your own in a package of your own: gray photographs of faces to faces in colour."""

import torch
from torch import Tensor

from pixel2style.config import LossConfig, SourceConfig
from pixel2style.tasks import Preset, Task
from pixel2style.tasks.recipes import compact


def gray(target: Tensor, rng: torch.Generator, config: SourceConfig) -> Tensor:
    """The source [1 s s] in [0, 1], which the encoder sees, of a target [3 s s] in [-1, 1], which should come out."""
    red, green, blue = (target + 1) / 2
    return (0.299 * red + 0.587 * green + 0.114 * blue)[None]


LOSS = LossConfig(l2=1, lpips=0.8, identity=0.1)

TASK = Task(
    "a gray photograph of a face to one in colour",
    presets={"colourise": Preset("gray photograph -> face in colour (compact)", compact("colourise", LOSS))},
    channels=1,
    source=gray,
)
