"""``pixel2style align``."""

from typing import Annotated

import tyro

from . import progress
from .arguments import Device, Face, Flag, Folder, Photos


def align(
    photo: Photos,
    /,
    out: Folder,
    size: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 1024,
    face: Face = None,
    device: Device = "auto",
    overwrite: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
    verbose: Flag = False,
) -> int:
    """Find a face in each photograph and cut it out as FFHQ did.

    For each photograph NAME, DIR receives NAME.png. Folders inside a folder keep their structure.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        size: Side of the square that is written.
        face: Which face of a photograph; N counts from the left. all: every face, as NAME.1, NAME.2 and so on.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        overwrite: Replace results of an earlier run instead of refusing.
        json: Print a JSON object for each picture instead.
        quiet: Print nothing but what failed, and why.
        verbose: Also print the seconds of each, and the device that was used.
    """
    style = progress.Style(json, quiet, verbose)
    from ..inference.folder import align_into
    from ..inference.session import Session

    found = progress.find(photo, out, style)
    session = Session(device=device)
    found, choice = progress.faces(found, face, session, style)
    outcomes = align_into(out, found, session, size=size, face=choice, overwrite=overwrite)
    return progress.report(outcomes, len(found), f"aligned into {out}", "photograph", style, lambda: session.device)
