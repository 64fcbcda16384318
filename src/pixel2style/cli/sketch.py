"""``pixel2style sketch``."""

from typing import Annotated, Literal

import tyro

from . import progress
from .arguments import Device, Face, Flag, Folder, Photos


def sketch(
    photo: Photos,
    /,
    out: Folder,
    style: Literal["lines", "pencil", "shaded", "outline"] = "lines",
    width: Annotated[float, tyro.conf.arg(metavar="PIXELS")] = 1.0,
    size: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 1024,
    align: Flag = True,
    face: Face = None,
    device: Device = "auto",
    overwrite: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
    verbose: Flag = False,
) -> int:
    """Draw the face in each photograph as a sketch, dark on white.

    For each photograph NAME, DIR receives NAME.png, a gray picture, and NAME.aligned.png, the face that it is of. The
    sketch can be changed, and made a photograph again: pixel2style translate sketch.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        style: lines: contours. pencil: hatching that follows the light. shaded: contours over soft tone. outline: the
            borders of hair, face, eyes and so on, a simple drawing.
        width: Width of a line, in pixels of a picture of 256.
        size: Side of the square that is written.
        align: Use photographs as they are, cut to their middle square.
        face: Which face of a photograph; N counts from the left. all: every face, as NAME.1, NAME.2 and so on.
        device: Where to look for faces. auto takes CUDA if there is one.
        overwrite: Replace results of an earlier run instead of refusing.
        json: Print a JSON object for each picture instead.
        quiet: Print nothing but what failed, and why.
        verbose: Also print the seconds of each, and the device that was used.
    """
    progress_style = progress.Style(json, quiet, verbose)
    from ..inference.drawings import sketch_into
    from ..inference.session import Session

    session = Session(device=device)
    found, choice = progress.faces(progress.find(photo, out, progress_style), face, session, progress_style, align)
    outcomes = sketch_into(
        out, found, session, style, width=width, size=size, align=align, face=choice, overwrite=overwrite
    )
    done = f"drawn into {out}"
    return progress.report(outcomes, len(found), done, "photograph", progress_style, lambda: session.device)
