"""``pixel2style invert``."""

from typing import Annotated

import tyro

from . import progress, terminal
from .arguments import Count, Device, Distance, Face, Flag, Folder, Photos, Precision, Seconds, Sheet


def invert(
    photo: Photos,
    /,
    out: Folder,
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "faces",
    align: Flag = True,
    face: Face = None,
    paste: Flag = False,
    refine: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: 1 or 0)")] = None,
    detail: Flag = True,
    budget: Seconds = None,
    target: Distance = None,
    save_features: Flag = False,
    device: Device = "auto",
    precision: Precision = "auto",
    batch: Count = 1,
    overwrite: Flag = False,
    skip_existing: Flag = False,
    sheet: Sheet = None,
    json: Flag = False,
    quiet: Flag = False,
    verbose: Flag = False,
) -> int:
    """Turn photographs into W+ rows and back into pictures.

    For each photograph NAME, DIR receives NAME.png (the reconstruction), NAME.pair.png (photograph and reconstruction
    side by side) and NAME.aligned.png (the face as the encoder saw it); latents.safetensors holds the rows of all of
    them by name. Folders inside a folder keep their structure.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        model: A bundled model (see: pixel2style models), one of our files, or an official pSp checkpoint; or the
            address of one: hf://USER/REPO, or https://HOST/FILE#sha256=DIGEST.
        align: Use pictures as they are, cut to their middle square: for faces already cropped as in FFHQ.
        face: Which face of a photograph; N counts from the left. all: every face, as NAME.1, NAME.2 and so on.
        paste: Also put the results back into the whole photograph, NAME.pasted.png, of its own size.
        refine: Steps that bring rows closer to the photograph: 1 with the bundled generator, else 0 (and dozens help).
            Rounding in bfloat16 makes pictures depend on processor and threads, by some levels of 255, with --no-detail
            by dozens: --precision fp32 does not.
        detail: Draw from rows alone, without the features that carry what rows cannot.
        budget: Refine the features for this time, seconds for each photograph.
        target: Refine them until LPIPS (AlexNet, at 256 pixels) is this small: .01 is hard to see.
        save_features: Also store these features, NAME.features.safetensors, 5 MB for each photograph. Rows alone give
            another picture.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        precision: auto computes partly in bfloat16 where the processor has it; fp32 gives the same pictures on all
            processors; bf16 is faster for models of paper size.
        batch: How many photographs to encode at once, on a GPU. More is faster and needs more memory.
        overwrite: Replace results of an earlier run instead of refusing.
        skip_existing: Leave out what an earlier run has finished: goes on where it was stopped.
        sheet: Also write a page (.html) or a picture (.jpg) that shows all results.
        json: Print a JSON object for each picture instead.
        quiet: Print nothing but what failed, and why.
        verbose: Also print the seconds of each, and the device that was used.
    """
    style = progress.Style(json, quiet, verbose)
    with terminal.importing():
        from ..inference.folder import invert_into
        from ..inference.latents_file import LATENTS
        from ..inference.session import Session

    found = progress.find(photo, out, style)
    session = Session(model, device, precision)
    found, choice = progress.faces(found, face, session, style, align)
    outcomes = invert_into(
        out, found, session, align=align, batch=batch, refine=refine, detail=detail, save_features=save_features,
        budget=budget, target=target, overwrite=overwrite, skip_existing=skip_existing, face=choice, paste=paste,
    )  # fmt: skip
    return progress.report(
        outcomes,
        len(found),
        f"inverted into {out}, rows in {out / LATENTS}",
        "photograph",
        style,
        lambda: session.device,
        sheet,
        overwrite or skip_existing,
        found,
    )
