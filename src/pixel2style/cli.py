"""The command ``pixel2style``: one function a command, each a few calls into ``pipeline``.

Exit codes: 0 done; 2 the user's input was at fault, said in one line on stderr (a line for each photograph that failed;
the others are done); 1 our fault, a traceback; 130 stopped by Ctrl-C, with what was finished kept. Heavy imports stand
inside the functions, so that help comes at once.
"""

import contextlib
import functools
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from . import __version__, cli_files, terminal

if TYPE_CHECKING:
    from .pipeline import Outcome

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
        device: Where to compute. auto takes CUDA or Apple's GPU where there is one.
        batch: How many photographs to encode at once. More is faster on a GPU and needs more memory.
        overwrite: Replace results of an earlier run instead of refusing.
    """
    from . import folders
    from .pipeline import LATENTS, Session, invert_into

    photos = folders.find(photo, leave_out=out)
    outcomes = invert_into(out, photos, Session(model, device), align=align, batch=batch, overwrite=overwrite)
    return _follow(outcomes, len(photos), f"inverted into {out}, rows in {out / LATENTS}")


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
    from . import folders
    from .pipeline import Session, align_into

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
    from . import report

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
    wrong = [str(verdict.error) for verdict in evaluation.failed] + evaluation.alone
    for sentence in wrong:
        terminal.complain(sentence)
    print(*report.lines(evaluation), f"report: {out / report.PAGE}", sep="\n")
    return 2 if wrong else 0


def models() -> int:
    """List what is bundled, from whom and under which terms."""
    from . import assets, cards

    for card in sorted(cards.all_cards(), key=lambda card: cards.ROLES.index(card.role)):
        print(f"{card.name}  ({card.role}, {card.size / 1e6:.1f} MB)")
        facts = [f"{key.capitalize()}: {card.facts[key]}" for key in ("origin", "data", "licence") if key in card.facts]
        for text in (card.about, *facts):
            print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    "))
        print()
    print(f"The cards in full: {assets.FOLDER}")
    return 0


def train(words: Annotated[tuple[str, ...], tyro.conf.Positional], /) -> int:
    """Teach an encoder on your own pictures, by a preset."""
    from . import cli_training

    return cli_training.train(words)


def doctor(words: Annotated[tuple[str, ...], tyro.conf.Positional], /) -> int:
    """Check before a long run that it can work."""
    from . import cli_training

    return cli_training.doctor(words)


OPEN: dict[str, Callable[..., int]] = {"train": train, "doctor": doctor}
"""Commands whose words a preset interprets, so that they are read by themselves (``cli_training``)."""
COMMANDS: dict[str, Callable[..., int]] = {
    "invert": invert,
    "align": align,
    "evaluate": evaluate,
    "inspect": cli_files.inspect,
    "convert": cli_files.convert,
    "fetch": cli_files.fetch,
    "export": cli_files.export,
    "models": models,
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


def _follow(outcomes: Generator["Outcome", None, None], total: int, done: str) -> int:
    """Show progress, name what was written, list what failed, and return the exit code."""
    failed = 0
    with contextlib.closing(outcomes):
        for outcome in _with_progress(outcomes, total):
            path = str(outcome.photo.path)
            if outcome.error:
                failed += 1
                sentence = str(outcome.error)
                terminal.complain(sentence if path in sentence else f"{path}: {sentence}")
            elif total <= LISTED:
                print(path, *(f"  {kind:<14} {file}" for kind, file in outcome.files.items()), sep="\n")
    if total > failed:
        print(f"{total - failed} of {total} photographs {done}" if total > 1 else f"1 photograph {done}")
    return 2 if failed else 0


def _with_progress(outcomes: Iterable[Seen], total: int) -> Iterable[Seen]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = not console.is_terminal or total <= 1
    return track(outcomes, "photographs", total, console=console, transient=True, disable=quiet)
