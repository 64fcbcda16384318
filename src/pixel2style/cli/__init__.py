"""The command ``pixel2style``: one function a command, each a few calls into ``pipeline``.

Exit codes: 0 done; 2 the user's input was at fault, said in one line on stderr (a line for each photograph that failed;
the others are done); 1 our fault, a traceback; 130 stopped by Ctrl-C, with what was finished kept. Heavy imports stand
inside the functions, so that help comes at once.
"""

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from .. import __version__
from .. import photos as folders
from ..errors import complain
from . import files, terminal

if TYPE_CHECKING:
    from ..inference.folder import Outcome

import tyro

Photos = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO...", help_behavior_hint="")]
Device = Literal["auto", "cpu", "cuda", "mps"]
Seen = TypeVar("Seen")
Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]

DESCRIPTION = """Encode photographs of faces into StyleGAN's W+ in one forward pass, and draw them again.

  pixel2style invert me.jpg --out results      one photograph
  pixel2style invert holidays --out results    a folder, to the bottom
  pixel2style COMMAND --help                   all about one command
  pixel2style --version"""
LISTED = 5
"""Up to so many photographs, every file written is named; above, only how many and where."""


def invert(
    photo: Photos,
    /,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "faces",
    align: Flag = True,
    refine: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: 1 or 0)")] = None,
    device: Device = "auto",
    batch: Annotated[int, tyro.conf.arg(metavar="N")] = 1,
    overwrite: Flag = False,
) -> int:
    """Turn photographs into W+ rows and back into pictures.

    For each photograph NAME, DIR receives NAME.png (the reconstruction), NAME.pair.png (photograph and reconstruction
    side by side) and NAME.aligned.png (the face as the encoder saw it); latents.safetensors holds the rows of all of
    them by name. Folders inside a folder keep their structure.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; made if need be.
        model: A bundled model (see: pixel2style models), one of our files, or an official pSp checkpoint; or where one
            is to be had: hf://USER/REPO, or https://HOST/FILE#sha256=DIGEST.
        align: Take pictures as they are, cut to their middle square: for faces already cropped as in FFHQ.
        refine: Steps that bring rows closer to the photograph: 1 with the bundled generator, else 0 (and dozens help).
        device: Where to compute. auto takes CUDA or Apple's GPU where there is one.
        batch: How many photographs to encode at once. More is faster on a GPU and needs more memory.
        overwrite: Replace results of an earlier run instead of refusing.
    """
    with terminal.importing():
        from ..inference.folder import LATENTS, invert_into
        from ..inference.session import Session

    photos = folders.find(photo, leave_out=out)
    session = Session(model, device)
    outcomes = invert_into(out, photos, session, align=align, batch=batch, refine=refine, overwrite=overwrite)
    return _follow(outcomes, len(photos), f"inverted into {out}, rows in {out / LATENTS}")


def translate(
    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")],
    picture: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE...", help_behavior_hint="")
    ],
    /,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE", help_behavior_hint="(default: TASK's)")] = None,
    samples: Annotated[int, tyro.conf.arg(metavar="N")] = 0,
    rows: Annotated[str, tyro.conf.arg(metavar="ROWS")] = "8-",
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0,
    alpha: Annotated[float, tyro.conf.arg(metavar="A")] = 1.0,
    factor: Annotated[int | None, tyro.conf.arg(metavar="F", help_behavior_hint="")] = None,
    mask: Annotated[str | None, tyro.conf.arg(metavar="box|half|strokes|FILE", help_behavior_hint="")] = None,
    keep_known: Flag = False,
    refine: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: 1 or 0)")] = None,
    align: Flag = True,
    device: Device = "auto",
    batch: Annotated[int, tyro.conf.arg(metavar="N")] = 1,
    overwrite: Flag = False,
) -> int:
    """Do to pictures what a model was taught: turn faces to the front, enlarge, fill holes, paint sketches and labels.

    For each picture NAME, DIR receives NAME.png (the result), NAME.pair.png (what the encoder saw beside it) and, with
    --samples, NAME.samples.png; latents.safetensors holds the rows of all of them by name.

    Args:
        task: frontalize, superres, inpaint, sketch, segmentation, toonify, invert or domain.
        picture: Pictures, folders of them, or patterns such as "shots/*.jpg": photographs, sketches or label maps.
        out: Folder for the results; made if need be.
        model: A model of that task: a bundled one, one of our files, an official pSp checkpoint, or an address of one.
        samples: Also draw so many variants, with other rows.
        rows: Which rows vary: late ones are colour and texture. As 8-15, 8- (to the last) or 3,5,8-11.
        seed: What variants and masks follow from; the same for every picture.
        alpha: How much of a row is replaced, from 0 to 1.
        factor: superres: first make the photograph so many times smaller than 256 pixels. Left out: it is small.
        mask: inpaint: what to fill. A drawn mask, or a picture: white is filled. Left out: whatever is transparent.
        keep_known: inpaint: put the known pixels back at full size, with a soft seam.
        refine: superres, inpaint, domain: steps that bring rows closer to what the picture shows, as for invert.
        align: Take photographs as they are, cut to their middle square. Sketches and label maps always are.
        device: Where to compute. auto takes CUDA or Apple's GPU where there is one.
        batch: How many pictures to encode at once. More is faster on a GPU and needs more memory.
        overwrite: Replace results of an earlier run instead of refusing.
    """
    with terminal.importing():
        from ..inference import prepare
        from ..inference.folder import LATENTS, translate_into
        from ..inference.session import Session

    session = Session(prepare.model_for(task) if model is None else model, device)
    request = prepare.Request(task, align, factor, mask, keep_known, samples, rows, seed, alpha, refine)
    pictures = folders.find(picture, leave_out=out)
    outcomes = translate_into(out, pictures, session, request, batch=batch, overwrite=overwrite)
    return _follow(outcomes, len(pictures), f"translated into {out}, rows in {out / LATENTS}", "picture")


def align(
    photo: Photos,
    /,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    size: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 1024,
    device: Device = "auto",
    overwrite: Flag = False,
) -> int:
    """Find the largest face in each photograph and cut it out as FFHQ did.

    For each photograph NAME, DIR receives NAME.png. Folders inside a folder keep their structure.

    Args:
        photo: Photographs, folders of photographs, or patterns such as "shots/*.jpg".
        out: Folder for the results; made if need be.
        size: Side of the square that is written.
        device: Where to compute. auto takes CUDA or Apple's GPU where there is one.
        overwrite: Replace results of an earlier run instead of refusing.
    """
    from ..inference.folder import align_into
    from ..inference.session import Session

    photos = folders.find(photo, leave_out=out)
    outcomes = align_into(out, photos, Session(device=device), size=size, overwrite=overwrite)
    return _follow(outcomes, len(photos), f"aligned into {out}")


def evaluate(
    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")],
    originals: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ORIGINALS")],
    /,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("evaluation"),
    faces: Flag = True,
    inception: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    device: Device = "auto",
    batch: Annotated[int, tyro.conf.arg(metavar="N")] = 8,
    overwrite: Flag = False,
) -> int:
    """Say how close results are to their originals.

    Pictures of one name are compared at 256 pixels. DIR receives report.html, to be looked at, scores.csv with a line
    for each picture, and summary.json. A folder that invert wrote may be both: its NAME.aligned.png are the originals.

    Args:
        results: Folder of pictures to judge, or one picture.
        originals: Folder of the pictures they should be, of the same names, suffix aside; or one picture.
        out: Folder for the report; made if need be.
        faces: The pictures show no aligned faces: leave out identity, and seek no faces.
        inception: Also measure FID with torch-fidelity and its file of Inception weights.
        device: Where to compute. auto takes CUDA or Apple's GPU where there is one.
        batch: How many pictures to judge at once.
        overwrite: Replace an earlier report instead of refusing.
    """
    from ..evaluation import report

    evaluation = report.evaluate_into(
        out,
        results,
        originals,
        faces=faces,
        inception=inception,
        device=device,
        batch=batch,
        overwrite=overwrite,
        follow=_with_progress,
    )
    wrong = [str(row.error) for row in evaluation.failed] + evaluation.unmatched
    for sentence in wrong:
        complain(sentence)
    print(*report.lines(evaluation), f"report: {out / report.PAGE}", sep="\n")
    return 2 if wrong else 0


def train(words: Annotated[tuple[str, ...], tyro.conf.Positional], /) -> int:
    """Teach an encoder on your own pictures, by a preset."""
    from . import training

    return training.train(words)


def doctor(words: Annotated[tuple[str, ...], tyro.conf.Positional], /) -> int:
    """Check before a long run that it can work."""
    from . import training

    return training.doctor(words)


OPEN: dict[str, Callable[..., int]] = {"train": train, "doctor": doctor}
"""Commands whose words a preset interprets, so that they are read by themselves (``cli_training``)."""
COMMANDS: dict[str, Callable[..., int]] = {
    "invert": invert,
    "translate": translate,
    "align": align,
    "evaluate": evaluate,
    "inspect": files.inspect,
    "convert": files.convert,
    "fetch": files.fetch,
    "export": files.export,
    "models": files.models,
    **OPEN,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv`` when None) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Warnings of libraries are for developers; what a user must know is said by an error's sentence.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if words == ["--version"]:
            print(f"pixel2style {__version__}")
            return 0
        return terminal.exit_code(lambda: _parsed(words or ["--help"])(), "stopped; what was finished is kept")


def _parsed(words: Sequence[str]) -> Callable[[], int]:
    """The command that ``words`` mean, ready to be called. Leaves with 0 after help, with 2 and one line otherwise."""
    overview = words[0].startswith("-")
    if words[0] in OPEN:
        return functools.partial(OPEN[words[0]], tuple(words[1:]))

    def later(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
        @functools.wraps(command)
        def bound(*args: Any, **options: Any) -> Callable[[], int]:
            return functools.partial(command, *args, **options)

        if overview and command.__doc__:
            bound.__doc__ = command.__doc__.partition("\n")[0]
        return bound

    def parse() -> Callable[[], int]:
        command: Callable[[], int] = tyro.extras.subcommand_cli_from_dict(
            {name: later(command) for name, command in COMMANDS.items()},
            prog="pixel2style",
            description=DESCRIPTION,
            args=words,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        return command

    return terminal.parsed(parse)


def _follow(outcomes: Generator["Outcome", None, None], total: int, done: str, what: str = "photograph") -> int:
    """Show progress, name what was written, list what failed, and return the exit code."""
    failed = 0
    with contextlib.closing(outcomes):
        for outcome in _with_progress(outcomes, total):
            path = str(outcome.photo.path)
            if outcome.error:
                failed += 1
                sentence = str(outcome.error)
                complain(sentence if path in sentence else f"{path}: {sentence}")
            elif total <= LISTED:
                print(path, *(f"  {kind:<14} {file}" for kind, file in outcome.files.items()), sep="\n")
    if total > failed:
        print(f"{total - failed} of {total} {what}s {done}" if total > 1 else f"1 {what} {done}")
    return 2 if failed else 0


def _with_progress(outcomes: Iterable[Seen], total: int) -> Iterable[Seen]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = not console.is_terminal or total <= 1
    return track(outcomes, "photographs", total, console=console, transient=True, disable=quiet)
