"""What a run over many pictures prints: a progress bar, the files that were written, and what failed."""

import contextlib
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ..errors import complain

if TYPE_CHECKING:
    from ..inference.folder import Outcome
    from ..inference.optimize import Progress
    from ..inference.refine import Fidelity, Watch

Item = TypeVar("Item")

LISTED = 5
"""Up to this number of pictures, every file that was written is named; for more, only their number and the folder."""


def report(outcomes: Generator["Outcome", None, None], total: int, done: str, what: str = "photograph") -> int:
    """Show progress, name what was written, list what failed, and return the exit code."""
    failed = skipped = 0
    with contextlib.closing(outcomes):
        for outcome in with_bar(outcomes, total):
            path = str(outcome.photo.path)
            if outcome.error:
                failed += 1
                sentence = str(outcome.error)
                complain(sentence if path in sentence else f"{path}: {sentence}")
                continue
            if outcome.skipped:
                skipped += 1
                continue
            if total <= LISTED:
                print(path, *(f"  {kind:<14} {file}" for kind, file in outcome.files.items()), sep="\n")
                if outcome.fidelity:
                    print(f"  {'fidelity':<14} {_words(outcome.fidelity)}")
            if outcome.far:
                complain(f"note: {path} is far from the aligned faces that this model knows: edits may not work")
    if skipped:
        print(f"{skipped} of {total} {what}s {'was' if skipped == 1 else 'were'} there already")
    if total > failed + skipped:
        print(f"{total - failed - skipped} of {total} {what}s {done}" if total > 1 else f"1 {what} {done}")
    return 2 if failed else 0


def _words(fidelity: "Fidelity") -> str:
    identity = "" if fidelity.identity is None else f", identity {fidelity.identity:.3f}"
    return f"LPIPS {fidelity.lpips:.3f}{identity}"


@contextlib.contextmanager
def steps() -> Iterator["Watch"]:
    """A function that shows the state of a refinement on stderr, if that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("encoding") if console.is_terminal else contextlib.nullcontext() as status:

        def watch(state: "Progress") -> None:
            if status is not None:
                status.update(f"step {state.step}: LPIPS {float(state.values.lpips.mean()):.3f}")

        yield watch


def with_bar(items: Iterable[Item], total: int) -> Iterable[Item]:
    """The items, with a progress bar on stderr if it is a terminal and there are several."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = not console.is_terminal or total <= 1
    return track(items, "photographs", total, console=console, transient=True, disable=quiet)
