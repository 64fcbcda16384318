"""One line on stderr for whatever the user's hand did wrong: the same for every command."""

import contextlib
import gc
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..errors import Pixel2StyleError, complain

Read = TypeVar("Read")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """What is imported here is never garbage, so nobody looks for any in it: not meanwhile, and not when all ends.

    For a process that has just begun. Looking costs a fifth of PyTorch's import and most of leaving it, 0.6 s together.
    """
    begins = "torch" not in sys.modules and gc.isenabled()
    if begins:
        gc.disable()
    try:
        yield
    finally:
        if begins:
            gc.freeze()
            gc.enable()


def exit_code(run: Callable[[], int], stopped: str) -> int:
    """What ``run`` returns; 2 and one sentence when the user's input was at fault; 130 and ``stopped`` at Ctrl-C."""
    try:
        return run()
    except Pixel2StyleError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain(stopped)
        return 130


def parsed(parse: Callable[[], Read], explained: Callable[[BaseException], str | None] = lambda _: None) -> Read:
    """What tyro reads off the command line. Leaves with 0 after help, with 2 and one line otherwise.

    ``explained`` may have a better sentence than tyro for what stood behind its complaint.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return parse()
    except SystemExit as end:
        if end.code:
            complain((end.__context__ and explained(_root(end))) or _unboxed(box.getvalue()))
        raise


def _root(error: BaseException) -> BaseException:
    """Where a chain of errors began."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _unboxed(box: str) -> str:
    """The sentences in tyro's framed complaint, without its title and its frame, on one line."""
    framed = box.startswith("╭")  # else, where the terminal is not Unicode, the title is a section of its own
    inside = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections = [" ".join(section.split()).rstrip(".") for section in re.split(r"[─-]{4,}", " ".join(inside))]
    kept = [section for section in sections[not framed :] if not section.startswith("Argument helptext")]
    return "; ".join(_did_you_mean(section) for section in kept).replace("?;", "?")


def _did_you_mean(section: str) -> str:
    """tyro's list of similar options, with the help of each, as their names."""
    if not section.startswith("Perhaps you meant:"):
        return section
    names = [name for name in re.findall(r"(?<!\S)--[\w.-]+", section) if name != "--help"]
    return f"did you mean {' or '.join(dict.fromkeys(names))}?"
