"""A task of your own, gray photographs to faces in colour: `python colourise.py PHOTOS RUN [STEPS]`."""

import dataclasses
import sys

import torch
from torch import Tensor

from pixel2style import tasks
from pixel2style.config import SourceConfig
from pixel2style.tasks import presets
from pixel2style.training import loop


def gray(target: Tensor, rng: torch.Generator, config: SourceConfig) -> Tensor:
    """What the encoder sees, [1 s s] in [0, 1], of what should come out, [3 s s] in [-1, 1]."""
    red, green, blue = (target + 1) / 2
    return (0.299 * red + 0.587 * green + 0.114 * blue)[None]


tasks.TASKS["colourise"] = tasks.Task("a gray photograph of a face to one in colour", channels=1, source=gray)

if __name__ == "__main__":
    photographs, out, *steps = sys.argv[1:]
    run = dataclasses.replace(presets.PRESETS["invert-compact"].config, task="colourise", data=(photographs,), out=out)
    loop.fit(dataclasses.replace(run, steps=int(*steps or ["1000"])), watch=lambda step, losses: print(step, losses))
