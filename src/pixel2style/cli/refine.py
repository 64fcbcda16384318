"""``pixel2style refine``."""

from typing import Annotated

import tyro

from . import progress, terminal
from .arguments import Count, Device, Distance, Face, Flag, Folder, Photos, Precision, Sheet

USUAL_BUDGET = 10.0
"""Seconds for each photograph, where neither time nor distance is given."""


def refine(
    photo: Photos,
    /,
    out: Folder,
    budget: Annotated[
        float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="(default: 10 without --target)")
    ] = None,
    target: Distance = None,
    tune: Flag = False,
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "faces",
    align: Flag = True,
    face: Face = None,
    paste: Flag = False,
    save_features: Flag = True,
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
    """Invert photographs as closely as a time budget allows.

    Begins as invert does, then changes the features step by step until the time is over or the picture is close enough;
    the best one is kept. DIR receives what invert writes, and the features in NAME.features.safetensors.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        budget: Seconds for each photograph.
        target: End when LPIPS (AlexNet, at 256 pixels) is this small: .01 is hard to see.
        tune: Change a copy of the generator instead of features (pivotal tuning), so that rows alone draw the
            photograph: slower. DIR also receives NAME.generator.safetensors.
        model: A bundled model, one of our files, or an official pSp checkpoint, or the address of one.
        align: Use pictures as they are, cut to their middle square: for faces already cropped as in FFHQ.
        face: Which face of a photograph; N counts from the left. all: every face, as NAME.1, NAME.2 and so on.
        paste: Also put the results back into the whole photograph, NAME.pasted.png, of its own size.
        save_features: Do not store the features, 14 MB for each photograph. Rows alone give another picture.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        precision: auto computes partly in bfloat16 where the processor has it; fp32 gives the same pictures on all
            processors; bf16 is faster for models of paper size.
        batch: How many photographs to refine at once, on a GPU.
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
    seconds = USUAL_BUDGET if budget is None and target is None else budget
    with progress.steps(quiet) as watch:
        outcomes = invert_into(
            out, found, session, align=align, batch=batch, save_features=save_features, budget=seconds, target=target,
            tune=tune, watch=watch, overwrite=overwrite, skip_existing=skip_existing, face=choice,
            paste=paste,
        )  # fmt: skip
        return progress.report(
            outcomes,
            len(found),
            f"refined into {out}, rows in {out / LATENTS}",
            "photograph",
            style,
            lambda: session.device,
            sheet,
            overwrite or skip_existing,
            found,
        )
