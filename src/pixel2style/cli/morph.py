"""``pixel2style morph``."""

from typing import Annotated

import tyro

from . import progress, terminal
from .arguments import Count, Device, Face, Flag, Folder, Photos, Precision


def morph(
    photo: Photos,
    /,
    out: Folder,
    steps: Count = 7,
    gif: Flag = False,
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "faces",
    align: Flag = True,
    face: Face = None,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
    verbose: Flag = False,
) -> int:
    """Let faces become each other, step by step, in the order given.

    DIR receives morph.png, a line of pictures from each face to the next, and with --gif morph.gif.

    Args:
        photo: Two photographs or more, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        steps: Pictures in a line, the two faces included.
        gif: Also write an animation, forth and back.
        model: A bundled model, one of our files, or an official pSp checkpoint, or the address of one.
        align: Use pictures as they are, cut to their middle square: for faces already cropped as in FFHQ.
        face: Which face of a photograph; N counts from the left. all: every face of each, one after another.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        precision: auto computes partly in bfloat16 where the processor has it; fp32 gives the same pictures on all
            processors; bf16 is faster for models of paper size.
        overwrite: Replace results of an earlier run instead of refusing.
        json: Print a JSON object for each picture instead.
        quiet: Print nothing but what failed, and why.
        verbose: Also print the seconds of each, and the device that was used.
    """
    style = progress.Style(json, quiet, verbose)
    with terminal.importing():
        from ..inference.figures import morph_into
        from ..inference.session import Session

    found = progress.find(photo, out, style)
    session = Session(model, device, precision)
    found, choice = progress.faces(found, face, session, style, align)
    outcomes = morph_into(out, found, session, steps=steps, gif=gif, align=align, face=choice, overwrite=overwrite)
    return progress.report(outcomes, len(found), f"morphed into {out}", "photograph", style, lambda: session.device)
