"""``pixel2style edit``."""

from typing import Annotated

import tyro

from . import progress, terminal
from .arguments import Count, Device, Face, Flag, Folder, Photos, Precision, Region, Seconds, Sheet


def edit(
    photo: Photos,
    /,
    out: Folder,
    set: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME=AMOUNT", help_behavior_hint=""), tyro.conf.UseAppendAction
    ] = (),
    rows: Annotated[str | None, tyro.conf.arg(metavar="ROWS", help_behavior_hint="(default: the direction's)")] = None,
    only: Region = None,
    strip: Count = 0,
    gif: Flag = False,
    budget: Seconds = None,
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
    """Change a face along directions: older, smiling, turned.

    pixel2style directions lists the bundled ones; files of InterFaceGAN, e4e and others work, too. Several compose in
    the order given. For each photograph NAME, DIR receives NAME.png (the edited picture), NAME.pair.png (photograph and
    edited picture side by side) and, with --strip, NAME.strip.png.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        set: A direction and how far to go, such as age=+2, smile=-1 or FILE.pt=3; may be given several times.
        rows: Change only these rows: early ones are pose and shape, late ones colour. As 0-6 or 3,5,8-11.
        only: Change only this part of the face; or a picture of the photograph's size, white where it may change.
            Everywhere else pixels are those of the inversion.
        strip: Also draw this number of pictures, from the opposite of the edit to the edit.
        gif: Also write this walk as an animation, NAME.gif, forth and back.
        budget: First refine the inversion for this time, seconds for each photograph.
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
    if not set:
        raise ConfigError("nothing is to be changed: add --set NAME=AMOUNT, for example --set age=+2")
    with terminal.importing():
        from ..inference.folder import edit_into
        from ..inference.session import Session

    found = progress.find(photo, out, style)
    session = Session(model, device, precision)
    found, choice = progress.faces(found, face, session, style, align)
    outcomes = edit_into(
        out, found, session, set, rows=rows, only=only, steps=strip, gif=gif, align=align, face=choice, paste=paste,
        budget=budget, overwrite=overwrite, skip_existing=skip_existing,
    )  # fmt: skip
    return progress.report(
        outcomes,
        len(found),
        f"edited into {out}",
        "photograph",
        style,
        lambda: session.device,
        sheet,
        overwrite or skip_existing,
        found,
    )
