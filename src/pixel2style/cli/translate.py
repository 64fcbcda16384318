"""``pixel2style translate``. What help says of tasks and their options comes from ``tasks``, when help is shown."""

from typing import Annotated, Literal

import tyro

from . import progress, terminal
from .arguments import Count, Device, Face, Flag, Folder, Precision, Sheet


def task_names() -> str:
    """Every task, those of installed packages too."""
    from ..tasks import TASKS, load_installed

    load_installed()
    return ", ".join(TASKS)


def _usual_steps() -> str:
    """Which tasks take steps, and how many by default."""
    from ..tasks import TASKS
    from ..tasks.task import FOLLOWING

    towards = ", ".join(name for name, task in TASKS.items() if task.refinable)
    drawings = " and ".join(name for name, task in TASKS.items() if task.agreement)
    return f"For {towards} (default: 1 or 0); {drawings} (default: {FOLLOWING} or 0)."


def _variation(part: int) -> str:
    """The default of ``--rows`` or ``--alpha``: those of other tasks, and of drawings."""
    from ..tasks import TASKS

    found: dict[object, list[str]] = {}
    for name, task in TASKS.items():
        found.setdefault(task.variation[part], []).append(name)
    (usual, _), *others = sorted(found.items(), key=lambda one: -len(one[1]))
    return f"{usual}" + "".join(f"; for variants of {' and '.join(names)} {value}" for value, names in others)


def _own(option: str) -> str:
    """The help of an option that some tasks have."""
    from ..tasks import TASKS

    helps: dict[str, list[str]] = {}
    for name, task in TASKS.items():
        if option in task.options:
            helps.setdefault(task.options[option], []).append(name)
    return " ".join(f"{', '.join(names)}: {words}" for words, names in helps.items())


def translate(
    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")],
    picture: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE...", help_behavior_hint="")
    ],
    /,
    out: Folder,
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE", help_behavior_hint="(default: TASK's)")] = None,
    samples: Count = 0,
    single_samples: Flag = False,
    rows: Annotated[
        str | None, tyro.conf.arg(metavar="ROWS", help_behavior_hint=lambda _: f"(default: {_variation(0)})")
    ] = None,
    seed: Annotated[str | None, tyro.conf.arg(metavar="S,...", help_behavior_hint="(default: 0)")] = None,
    alpha: Annotated[
        float | None, tyro.conf.arg(metavar="A", help_behavior_hint=lambda _: f"(default: {_variation(1)})")
    ] = None,
    factor: Annotated[int | None, tyro.conf.arg(metavar="F", help_behavior_hint=lambda _: _own("factor"))] = None,
    mask: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE", help_behavior_hint=lambda _: _own("mask"))] = None,
    keep_known: Annotated[bool, tyro.conf.arg(help_behavior_hint=lambda _: _own("keep_known"))] = False,
    make_sketch: Annotated[
        Literal["pencil", "lines", "shaded", "outline"] | None,
        tyro.conf.arg(help_behavior_hint=lambda _: _own("make_sketch")),
    ] = None,
    make_labels: Annotated[bool, tyro.conf.arg(help_behavior_hint=lambda _: _own("make_labels"))] = False,
    colours: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint=lambda _: _own("colours"))] = None,
    like: Annotated[str | None, tyro.conf.arg(metavar="PHOTO", help_behavior_hint=lambda _: _own("like"))] = None,
    refine: Annotated[
        int | None,
        tyro.conf.arg(metavar="STEPS", help_behavior_hint=lambda _: _usual_steps()),
    ] = None,
    detail: Flag = True,
    align: Flag = True,
    face: Face = None,
    paste: Flag = False,
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
    """Apply a model's task to pictures: turn faces to the front, enlarge, fill holes, draw from sketches or label maps.

    TASK is one of {tasks}.

    For each picture NAME, DIR receives NAME.png (the result), NAME.pair.png (what the encoder saw beside it) and, with
    --samples, NAME.samples.png; latents.safetensors holds the rows of all of them by name.

    Args:
        task: What to do.
        picture: Pictures, folders of them, or patterns such as "shots/*.jpg": photographs, sketches or label maps.
        out: Folder for the results; created if it does not exist.
        model: A model of that task: a bundled one, one of our files, an official pSp checkpoint, or an address of one.
        samples: Also draw this number of variants, with other rows.
        single_samples: Also write each variant as a file, NAME.sample1.png and so on.
        rows: Which rows vary, or come from --like: late ones are colour and texture. As 8-15, 8- (to the last) or
            3,5,8-11.
        seed: Determines variants and drawn masks; the same for every picture. Several, as 1,2,3 or 1-3: one result for
            each, NAME.seed1 and so on.
        alpha: How much of a row is replaced, from 0 to 1.
        refine: Steps that bring rows closer to what the picture shows, as for invert, or make a face and its variants
            follow a drawing more closely. 0 is quicker.
        detail: Draw from rows alone, without the features that keep what the picture shows.
        make_sketch: Draw photographs first.
        make_labels: Find the regions of photographs first.
        colours: Read label maps in colours of their own.
        like: Take rows from a photograph.
        align: Use photographs as they are, cut to their middle square. Sketches and label maps always are.
        face: Which face of a photograph; N counts from the left. all: every face, as NAME.1, NAME.2 and so on.
        paste: Also put the results back into the whole photograph, NAME.pasted.png, of its own size.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        precision: auto computes partly in bfloat16 where the processor has it; fp32 gives the same pictures on all
            processors; bf16 is faster for models of paper size.
        batch: How many pictures to encode at once, on a GPU. More is faster and needs more memory.
        overwrite: Replace results of an earlier run instead of refusing.
        skip_existing: Leave out what an earlier run has finished: goes on where it was stopped.
        sheet: Also write a page (.html) or a picture (.jpg) that shows all results.
        json: Print a JSON object for each picture instead.
        quiet: Print nothing but what failed, and why.
        verbose: Also print the seconds of each, and the device that was used.
    """
    style = progress.Style(json, quiet, verbose)
    with terminal.importing():
        from ..inference import prepare
        from ..inference.folder import translate_into
        from ..inference.latents_file import LATENTS
        from ..inference.session import Session
        from ..tasks.request import Request, parse_seeds

    seeds = parse_seeds(seed or "0")
    session = Session(prepare.model_for(task) if model is None else model, device, precision)
    pictures, choice = progress.faces(
        progress.find(picture, out, style), face, session, style, align, task, make_labels or make_sketch is not None
    )
    request = Request(
        task, align, factor, mask, keep_known, samples, rows, seeds[0], alpha, refine, detail,
        face=choice, make_sketch=make_sketch, make_labels=make_labels, like=like, colours=colours,
    )  # fmt: skip
    if seed is not None:
        prepare.check_seed(request, session.model.config)
    outcomes = translate_into(
        out,
        pictures,
        session,
        request,
        batch=batch,
        seeds=seeds if len(seeds) > 1 else (),
        single_samples=single_samples,
        paste=paste,
        overwrite=overwrite,
        skip_existing=skip_existing,
    )
    return progress.report(
        outcomes,
        len(pictures) * len(seeds),
        f"translated into {out}, rows in {out / LATENTS}",
        "picture",
        style,
        lambda: session.device,
        sheet,
        overwrite or skip_existing,
        pictures,
    )
