"""``pixel2style directions``."""

import math
from pathlib import Path
from typing import Annotated

import tyro

from . import terminal
from .arguments import Flag


def directions(
    generator: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|FILE")] = "mobilestylegan_ffhq_1024",
    /,
    file: Annotated[str | None, tyro.conf.arg(metavar="FILE[:N]", help_behavior_hint="")] = None,
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None,
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0,
    overwrite: Flag = False,
) -> int:
    """List the bundled directions of a generator, with what a unit is and how much else it changes.

    "unwanted" is the largest change of another attribute for one unit, in its standard deviations, "identity" the
    cosine by dlib's network to the face before (.95 for one person, .84 for different people).

    Args:
        generator: A bundled generator or model, or a file of one.
        file: Say what this file holds instead, for that generator; component N of GANSpace's.
        out: Also draw each: DIR receives NAME.jpg, a generated face from -2 to 2 units.
        seed: Determines that face.
        overwrite: Replace pictures of an earlier run instead of refusing.
    """
    from ..errors import ConfigError

    if out is None and (seed or overwrite):
        raise ConfigError(f"--{'seed' if seed else 'overwrite'} does nothing without pictures: add --out DIR")
    with terminal.importing():
        from .. import checkpoints, images
        from ..files import claim
        from ..generators.sampling import seeded
        from ..inference import edit

    seeded(seed)
    network = checkpoints.load_generator(checkpoints.find(generator))
    found = edit.bundled(network)
    if file is not None:
        one = edit.find(file, network)
        found = {one.name: one}
    if not found:
        print(f"no directions of {generator} are bundled: edit takes files, --set FILE.pt=1")
    pictures = {} if out is None else {name: out / f"{name.replace('/', '-')}.jpg" for name in found}
    if out is not None:
        claim(out, list(pictures.values()), [], overwrite)
    for name, direction in found.items():
        unwanted, identity = (direction.figures.get(key, math.nan) for key in ("unwanted", "identity"))
        about = f"rows {direction.rows:<5} unit {direction.unit or 'not known':<24}"
        if direction.figures:
            about += f" unwanted {unwanted:.2f}  identity {identity:.3f}"
        print(f"{name:<18} {about}", flush=True)
        if file is not None:
            print(f"{'':<18} of {direction.generator or 'a generator that it does not name'}; {direction.source}")
        if out is not None:
            images.save(edit.shown(direction, network, seed), pictures[name])
    if pictures:
        print(f"{len(pictures)} drawn into {out}: one face, moved by {', '.join(f'{at:g}' for at in edit.SHOWN)} units")
    return 0
