"""``pixel2style convert``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from .arguments import Flag


def convert(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    to: Literal["ours", "psp", "rosinality", "nvidia-state"] = "ours",
    generator: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    overwrite: Flag = False,
) -> int:
    """Rewrite a published checkpoint as one of our files, or a model of ours as the original code loads it.

    Sizes, channels and rows are read off the tensors. Our files are complete, and loading them cannot run code.

    Args:
        file: A model or a generator: a bundled name, one of our files, any checkpoint that docs/checkpoints.md lists,
            or the address of one.
        out: The file to write: NAME.safetensors for ours, NAME.pt for others.
        to: The layout. psp: that of pSp, e4e or ReStyle, according to the model, which must have the papers' encoder
            and a StyleGAN2; compact models, such as the bundled ones, have no place in it. rosinality and
            nvidia-state: of the generator alone.
        generator: The generator of an encoder that is stored without one.
        overwrite: Replace OUT if it exists.
    """
    from ..inference.folder import convert as convert_file

    print(f"{file} -> {out}: {convert_file(file, out, to=to, generator=generator, overwrite=overwrite)}")
    return 0
