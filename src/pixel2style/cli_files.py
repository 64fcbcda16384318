"""Commands about files of models: what they are, and how they leave.

One function a command, as in ``cli``. Heavy imports stand inside the functions, so that help comes at once.
"""

from pathlib import Path
from typing import Annotated

import tyro

Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


def convert(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.safetensors")],
    /,
    overwrite: Flag = False,
) -> int:
    """Rewrite a published checkpoint as one of our files.

    Sizes, channels and rows are read off the tensors. The new file needs no other beside it, and loading it cannot run
    code.

    Args:
        file: A rosinality StyleGAN2 generator (.pt) or an official pSp checkpoint (.pt).
        out: The file to write, NAME.safetensors.
        overwrite: Replace OUT.safetensors if it exists.
    """
    from .pipeline import convert as convert_file

    print(f"{file} -> {out}: {convert_file(file, out, overwrite=overwrite)}")
    return 0
