"""``pixel2style directions``."""

import math
from typing import Annotated

import tyro

from . import terminal


def directions(
    generator: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|FILE")] = "mobilestylegan_ffhq_1024",
    /,
    file: Annotated[str | None, tyro.conf.arg(metavar="FILE[:N]", help_behavior_hint="")] = None,
) -> int:
    """List the bundled directions of a generator, with what a unit is and how much else it changes.

    "unwanted" is the largest change of another attribute for one unit, in its standard deviations, "identity" the
    cosine by dlib's network to the face before (.95 for one person, .84 for different people).

    Args:
        generator: A bundled generator or model, or a file of one.
        file: Say what this file holds instead, for that generator; component N of GANSpace's.
    """
    with terminal.importing():
        from .. import checkpoints
        from ..inference import edit

    network = checkpoints.load_generator(checkpoints.find(generator))
    found = edit.bundled(network)
    if file is not None:
        one = edit.find(file, network)
        found = {one.name: one}
    if not found:
        print(f"no directions of {generator} are bundled: edit takes files, --set FILE.pt=1")
    for name, direction in found.items():
        unwanted, identity = (direction.figures.get(key, math.nan) for key in ("unwanted", "identity"))
        about = f"rows {direction.rows:<5} unit {direction.unit or 'not known':<24}"
        if direction.figures:
            about += f" unwanted {unwanted:.2f}  identity {identity:.3f}"
        print(f"{name:<18} {about}")
        if file is not None:
            print(f"{'':<18} of {direction.generator or 'a generator that it does not name'}; {direction.source}")
    return 0
