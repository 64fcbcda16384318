"""``pixel2style paint``."""

import re
from pathlib import Path
from typing import Annotated

import tyro

from . import progress, terminal
from .arguments import Device, Face, Flag, Folder, Photos, Precision, Region, Sheet


def paint(
    photo: Photos,
    /,
    out: Folder,
    patch: Annotated[Path | None, tyro.conf.arg(metavar="PICTURE", help_behavior_hint="")] = None,
    at: Annotated[str | None, tyro.conf.arg(metavar="X,Y", help_behavior_hint="")] = None,
    mask: Region = None,
    source: Annotated[Path | None, tyro.conf.arg(name="from", metavar="PHOTO", help_behavior_hint="")] = None,
    fill: Annotated[str | None, tyro.conf.arg(metavar="COLOUR", help_behavior_hint="")] = None,
    keep: Annotated[float, tyro.conf.arg(metavar="A")] = 0.0,
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "faces",
    align: Flag = True,
    face: Face = None,
    paste: Flag = False,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Flag = False,
    skip_existing: Flag = False,
    sheet: Sheet = None,
    json: Flag = False,
    quiet: Flag = False,
    verbose: Flag = False,
) -> int:
    """Paint roughly on a face, and get a face: a patch, a part of another face, a colour.

    pixel2style paint me.jpg --mask mouth --from friend.jpg      another's mouth
    pixel2style paint me.jpg --mask chin.png --fill brown        a beard
    pixel2style paint me.jpg --patch glasses.png --at 210,140    a picture, where it is not transparent

    For each photograph NAME, DIR receives NAME.png (the face that the painting became) and NAME.pair.png (photograph
    and face side by side). Where nothing was painted, pixels are those of the inversion.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        patch: A picture that is laid on the photograph.
        at: The pixel of the photograph, from the left and from the top, where the top left corner of the patch lies.
        mask: Where to paint: a part of the face, or a picture of the photograph's size, white where to paint.
        source: Another photograph of a face, of which this part is taken.
        fill: A colour, such as brown or "#402010".
        keep: How much of the painting's own detail is kept: 0 makes a face of it, 1 leaves it as it is painted.
        model: A bundled model, one of our files, or an official pSp checkpoint, or the address of one.
        align: Use pictures as they are, cut to their middle square: for faces already cropped as in FFHQ.
        face: Which face of a photograph; N counts from the left. all: every face, as NAME.1, NAME.2 and so on.
        paste: Also put the results back into the whole photograph, NAME.pasted.png, of its own size.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        precision: auto computes partly in bfloat16 where the processor has it; fp32 gives the same pictures on all
            processors; bf16 is faster for models of paper size.
        overwrite: Replace results of an earlier run instead of refusing.
        skip_existing: Leave out what an earlier run has finished: goes on where it was stopped.
        sheet: Also write a page (.html) or a picture (.jpg) that shows all results.
        json: Print a JSON object for each picture instead.
        quiet: Print nothing but what failed, and why.
        verbose: Also print the seconds of each, and the device that was used.
    """
    from ..errors import ConfigError

    style = progress.Style(json, quiet, verbose)
    place = re.fullmatch(r"(-?\d{1,6}),(-?\d{1,6})", at or "", re.ASCII)
    if at is not None and place is None:
        raise ConfigError(f"--at {at} is not X,Y: for example --at 210,140")
    with terminal.importing():
        from ..inference.folder import paint_into
        from ..inference.paint import Painting
        from ..inference.session import Session

    painting = Painting(patch, place and (int(place[1]), int(place[2])), mask, source, fill, keep)
    painting.check()
    found = progress.find(photo, out, style)
    session = Session(model, device, precision)
    found, choice = progress.faces(found, face, session, style, align)
    outcomes = paint_into(
        out, found, session, painting, align=align, face=choice, paste=paste, overwrite=overwrite,
        skip_existing=skip_existing,
    )  # fmt: skip
    return progress.report(
        outcomes,
        len(found),
        f"painted into {out}",
        "photograph",
        style,
        lambda: session.device,
        sheet,
        overwrite or skip_existing,
        found,
    )
