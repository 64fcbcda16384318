"""Toonification: inversion into a generator that was tuned to another domain (pSp, section 4.5)."""

from dataclasses import replace

from ..config import LossConfig
from . import recipes
from .task import OfficialDataset, Task

LOSS = LossConfig(l2=1, lpips=0.8, identity=1, w_norm=0.025)

TASK = Task(
    "a photograph of a face to the face that another domain's generator draws for it",
    presets=recipes.presets(
        "toonify",
        "face -> toon: name a toon generator with --generator",
        replace(recipes.paper("toonify", LOSS), steps=6_000),  # a longer run forgets the style
        recipes.compact("toonify", LOSS, code_norm=0.01),
    ),
    official=OfficialDataset("toonify", ("restyle",)),
)
