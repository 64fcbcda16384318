"""What a run over many pictures prints: a progress bar, the files that were written, and what failed."""

import contextlib
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import photos
from ..errors import ConfigError, complain

if TYPE_CHECKING:
    from ..faces.align import Choice
    from ..inference.folder import Outcome
    from ..inference.optimize import Progress
    from ..inference.refine import Fidelity, Watch
    from ..inference.session import Session

Item = TypeVar("Item")

LISTED = 5
"""Up to this number of pictures, every file that was written is named; for more, only their number and the folder."""
PAUSE = 10.0
"""Seconds between lines of progress where stderr is no terminal."""
SOON = 1.0
"""The same for what takes a minute at most."""


@dataclass(frozen=True)
class Style:
    """How much is printed: a JSON object for each picture, nothing but errors, or also seconds and the device."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.json + self.quiet + self.verbose > 1:
            raise ConfigError("--json, --quiet and --verbose exclude each other: choose one")


def find(words: Sequence[str], out: Path, style: Style) -> list[photos.Photo]:
    """The photographs that a command line means, with a note on files of folders that are none."""
    others = Counter[str]()
    found = photos.find(words, out, others)
    if others and not style.quiet:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        total = others.total()
        what = "1 file that is no picture" if total == 1 else f"{total} files that are no pictures"
        complain(f"note: left out {what} ({kinds})")
    return found


def faces(
    found: list[photos.Photo],
    face: str | None,
    session: "Session",
    style: Style,
    align: bool = True,
    task: str = "",
    drawn: bool = False,
) -> tuple[list[photos.Photo], "Choice | None"]:
    """The photographs, for ``--face all`` one for each face, and the choice for those whose face is not known yet.

    ``drawn``: the task draws the photographs first. Raises ConfigError for a word that is no choice, or where ``task``
    looks for no faces.
    """
    from ..config import DEFAULT_TASK
    from ..inference import prepare
    from ..tasks.request import Request

    if face is None:
        return found, None
    choice: Any = int(face) if face.isdecimal() else face
    every = choice == "all"
    prepare.check_face(Request(task or DEFAULT_TASK, align, face="largest" if every else choice, make_labels=drawn))
    if not every:
        return found, choice
    return [own for photo in with_bar(found, len(found), style.quiet) for own in session.each_face([photo])], None


def report(
    outcomes: Generator["Outcome", None, None],
    total: int,
    done: str,
    what: str = "photograph",
    style: Style = Style(),
    device: Callable[[], object] = lambda: "",
    sheet: Path | None = None,
    overwrite: bool = False,
    found: Sequence[photos.Photo] = (),
) -> int:
    """Show progress, name what was written, list what failed, and return the exit code.

    ``sheet`` is the file of a contact sheet to write as well, see ``contact_sheet.collected``, which also raises; it
    never replaces one of the photographs ``found``.
    """
    if sheet is not None:
        from ..inference.contact_sheet import collected

        outcomes = collected(outcomes, sheet, overwrite, [photo.path for photo in found], total)
    failed = skipped = 0
    said = busy = ""
    last = time.monotonic()
    from .. import runtime

    with contextlib.closing(outcomes):
        for outcome in with_bar(outcomes, total, style.quiet):
            failed, skipped = failed + (outcome.error is not None), skipped + outcome.skipped
            if outcome.error:
                path, sentence = str(outcome.photo.path), str(outcome.error)
                complain(sentence if path in sentence else f"{path}: {sentence}")
            elif not style.quiet:
                far = ("is far from the aligned faces that this model knows: edits may fail",) if outcome.far else ()
                for note in (f"note: {outcome.photo.path} {words}" for words in outcome.notes + far):
                    if note != said:  # once for all faces of a photograph
                        complain(note)
                        said = note
            seconds = time.monotonic() - last
            _tell(outcome, style, total <= LISTED, seconds)
            if not style.quiet and not busy and (busy := runtime.crawling(seconds)):
                complain(f"note: {busy}")
            last = time.monotonic()
    if not (style.quiet or style.json):
        if skipped:
            print(f"{skipped} of {total} {what}s {'was' if skipped == 1 else 'were'} there already")
        if total > failed + skipped:
            print(f"{total - failed - skipped} of {total} {what}s {done}" if total > 1 else f"1 {what} {done}")
        if style.verbose:
            print(f"computed on {device()}")
    return 2 if failed else 0


def _tell(outcome: "Outcome", style: Style, listed: bool, seconds: float) -> None:
    """Print what was made of one picture."""
    if style.json:
        print(json.dumps(_facts(outcome, seconds)), flush=True)
    elif not style.quiet and not outcome.error and not outcome.skipped and (listed or style.verbose):
        print(outcome.photo.path)
        for kind, file in outcome.files.items():
            print(f"  {kind:<14} {file}")
        if outcome.fidelity:
            print(f"  {'fidelity':<14} {_words(outcome.fidelity)}")
        if style.verbose:
            print(f"  {'seconds':<14} {seconds:.2f}")


def _facts(outcome: "Outcome", seconds: float) -> dict[str, Any]:
    """The line of ``--json`` of one picture."""
    facts: dict[str, Any] = {"photograph": str(outcome.photo.path), "name": outcome.photo.name}
    if outcome.error:
        return facts | {"error": str(outcome.error)}
    facts |= {"files": {kind: str(file) for kind, file in outcome.files.items()}, "skipped": outcome.skipped}
    facts |= {"notes": list(outcome.notes)} if outcome.notes else {}
    fidelity = {} if outcome.fidelity is None else {"fidelity": asdict(outcome.fidelity), "far": outcome.far}
    return facts | fidelity | {"seconds": round(seconds, 3)}


def _words(fidelity: "Fidelity") -> str:
    identity = "" if fidelity.identity is None else f", identity {fidelity.identity:.3f}"
    return f"LPIPS {fidelity.lpips:.3f}{identity}"


@contextlib.contextmanager
def steps(quiet: bool = False) -> Iterator["Watch"]:
    """A function that shows the state of a refinement on stderr, if that is a terminal and not ``quiet``."""
    from rich.console import Console

    console = Console(stderr=True)
    shown = console.is_terminal and not quiet
    with console.status("encoding") if shown else contextlib.nullcontext() as status:

        def watch(state: "Progress") -> None:
            if status is not None:
                status.update(f"step {state.step}: LPIPS {float(state.values.lpips.mean()):.3f}")

        yield watch


@contextlib.contextmanager
def doing(first: str) -> Iterator[Callable[[str], None]]:
    """A function that says on stderr what is being done; no more often than every second where it is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(first) as status:
            yield status.update
        return
    last = -math.inf

    def say(what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SOON:
            last = time.monotonic()
            print(f"... {what}", file=sys.stderr, flush=True)

    yield say


def with_bar(items: Iterable[Item], total: int, quiet: bool = False) -> Iterable[Item]:
    """The items, with a progress bar on stderr if there are several; a line now and then if it is no terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if quiet or total <= 1:
        return items
    if not console.is_terminal:
        return _with_lines(items, total)
    return track(items, "photographs", total, console=console, transient=True)


def _with_lines(items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items, with a line on stderr at most every ``PAUSE`` seconds."""
    last = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if number < total and time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            print(f"{number} of {total} photographs", file=sys.stderr, flush=True)
