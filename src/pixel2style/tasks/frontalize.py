"""Frontalisation: a face from any side to the same face from the front (pSp, section 4.2).

Source and target are mirrored independently. So the encoder cannot know which way to look, the identity loss keeps the
face, and the average of both directions is the front.
"""

from ..config import LossConfig
from . import recipes
from .task import OfficialDataset, Task

LOSS = LossConfig(l2=0.001, lpips=0.08, identity=1, w_norm=0.005, l2_crop=0.01, lpips_crop=0.8)

TASK = Task(
    "a face from any side to the same face from the front",
    presets=recipes.presets(
        "frontalize",
        "face in any pose -> the same face from the front",
        recipes.paper("frontalize", LOSS),
        recipes.compact("frontalize", LOSS),
    ),
    mirror="apart",
    official=OfficialDataset("ffhq_frontalize", ("psp",)),
)
