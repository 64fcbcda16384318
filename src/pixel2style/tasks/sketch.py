"""A pencil sketch to a face (pSp, section 4.3). Sketches are drawn from photographs, in several styles."""

from typing import TYPE_CHECKING

from ..config import LossConfig, SourceConfig
from . import recipes
from .task import OfficialDataset, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LOSS = LossConfig(l2=1, lpips=0.8, identity=0, w_norm=0.005)


def drawing(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """The target drawn in one of ``config.sketches``: ``[1 s s]`` in [0, 1], 1 is paper."""
    from . import degrade

    return degrade.sketch(target, degrade.choose(config.sketches, rng, "sketches"), rng)


TASK = Task(
    "a pencil sketch to a face",
    presets=recipes.presets(
        "sketch", "pencil sketch -> face", recipes.paper("sketch", LOSS), recipes.compact("sketch", LOSS)
    ),
    channels=1,
    source=drawing,
    photograph=False,
    official=OfficialDataset("celebs_sketch_to_face", ("psp",)),
)
