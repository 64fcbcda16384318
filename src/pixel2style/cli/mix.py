"""``pixel2style mix``."""

from typing import Annotated

import tyro

from . import progress, terminal
from .arguments import Count, Device, Face, Flag, Folder, Photos, Precision, Sheet


def mix(
    photo: Photos,
    /,
    out: Folder,
    other: Annotated[
        tuple[str, ...],
        tyro.conf.arg(name="with", metavar="PHOTO[:WEIGHT]", help_behavior_hint=""),
        tyro.conf.UseAppendAction,
    ] = (),
    rows: Annotated[str, tyro.conf.arg(metavar="coarse|medium|fine|ROWS")] = "fine",
    alpha: Annotated[float, tyro.conf.arg(metavar="A")] = 1.0,
    strip: Count = 0,
    gif: Flag = False,
    variants: Count = 0,
    seed: Annotated[int | None, tyro.conf.arg(metavar="S", help_behavior_hint="(default: 0)")] = None,
    grid: Flag = False,
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
    """Give a face the style of other faces: their colours, features or pose (style mixing).

    For each photograph NAME, DIR receives NAME.png (the mixed picture) and NAME.pair.png (photograph and mixed picture
    side by side); latents.safetensors holds the mixed rows.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; created if it does not exist.
        other: A photograph whose rows are taken; may be given several times, with weights: a.jpg:0.3 b.jpg:0.7.
        rows: Which rows: coarse is pose and shape, medium the features of a face, fine colours and texture. Or as 0-6.
        alpha: How much of a row is replaced, from 0 to 1. Below 1, with all rows (0-), faces morph.
        strip: Also draw this number of pictures, from the photograph to the mixture: NAME.strip.png.
        gif: Also write this way as an animation, NAME.gif, forth and back.
        variants: Also draw this number of variants with random latents in these rows: NAME.variants.png. Works without
            --with, too.
        seed: Determines the variants.
        grid: Instead mix each photograph with each other, into one picture: DIR/grid.png.
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
    if not other and (grid or not variants):
        raise ConfigError("there is nothing to mix with: add --with PHOTO, or --variants N for random styles")
    if seed is not None and not variants:
        raise ConfigError("--seed decides which --variants are drawn: add --variants 4, or leave it out")
    if grid and (strip or gif or variants or paste or skip_existing or sheet):
        raise ConfigError(
            "--grid makes one picture: leave --strip, --gif, --variants, --paste, --skip-existing and --sheet out"
        )
    with terminal.importing():
        from ..inference.figures import grid_into
        from ..inference.folder import mix_into
        from ..inference.session import Session

    found = progress.find(photo, out, style)
    session = Session(model, device, precision)
    found, choice = progress.faces(found, face, session, style, align)
    if grid:
        outcomes = grid_into(
            out, found, session, other, rows=rows, alpha=alpha, align=align, face=choice, overwrite=overwrite
        )
    else:
        outcomes = mix_into(
            out, found, session, other, rows=rows, alpha=alpha, steps=strip, gif=gif, variants=variants, seed=seed or 0,
            align=align, face=choice, paste=paste, overwrite=overwrite, skip_existing=skip_existing,
        )  # fmt: skip
    return progress.report(
        outcomes,
        len(found),
        f"mixed into {out}",
        "photograph",
        style,
        lambda: session.device,
        sheet,
        overwrite or skip_existing,
        found,
    )
