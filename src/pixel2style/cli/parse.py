"""``pixel2style parse``."""

from typing import Annotated

import tyro

from . import progress
from .arguments import Device, Face, Flag, Folder, Photos


def parse(
    photo: Photos,
    /,
    out: Folder,
    size: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 512,
    align: Flag = True,
    face: Face = None,
    device: Device = "auto",
    overwrite: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
    verbose: Flag = False,
) -> int:
    """Write the label map of the face in each photograph: hair, skin, eyes and so on, the 19 classes of CelebAMask-HQ.

    For each photograph NAME, DIR receives NAME.png, a palette picture whose numbers are the classes, and
    NAME.aligned.png, the face that it is of. The map can be changed, and made a photograph again: pixel2style translate
    segmentation.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        size: Side of the square that is written.
        align: Use photographs as they are, cut to their middle square.
        face: Which face of a photograph; N counts from the left. all: every face, as NAME.1, NAME.2 and so on.
        device: Where to look for faces. auto takes CUDA if there is one.
        overwrite: Replace results of an earlier run instead of refusing.
        json: Print a JSON object for each picture instead.
        quiet: Print nothing but what failed, and why.
        verbose: Also print the seconds of each, and the device that was used.
    """
    style = progress.Style(json, quiet, verbose)
    from ..inference.drawings import parse_into
    from ..inference.session import Session

    session = Session(device=device)
    found, choice = progress.faces(progress.find(photo, out, style), face, session, style, align)
    outcomes = parse_into(out, found, session, size=size, align=align, face=choice, overwrite=overwrite)
    return progress.report(outcomes, len(found), f"parsed into {out}", "photograph", style, lambda: session.device)
