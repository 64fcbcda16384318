"""Inversion of other things than faces: cars, churches, cats (pSp, section 4.6).

General features take the place of the identity loss.
"""

from ..config import LossConfig
from . import recipes
from .task import OfficialDataset, Task, whole

LOSS = LossConfig(l2=1, lpips=0.8, identity=0, similarity=0.5)

TASK = Task(
    "a picture of anything but faces to the rows that draw it again",
    presets=recipes.presets(
        "domain",
        "inversion of other things than faces: name their generator with --generator",
        recipes.paper("domain", LOSS),
        recipes.from_scratch(recipes.compact("domain", LOSS)),
    ),
    faces=False,
    refinable=True,
    shown=whole,
    official=OfficialDataset("church_encode", ("restyle",), prefixes=("",)),
)
