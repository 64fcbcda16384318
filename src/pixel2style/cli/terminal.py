"""What all commands share: one line on stderr for a mistake of the user, exit codes, quick imports."""

import contextlib
import errno
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..errors import Pixel2StyleError, complain

Read = TypeVar("Read")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import without garbage collection, and exclude what was imported from it later.

    Only in a process that has not imported PyTorch yet. Collection takes a fifth of the time of that import and most of
    the time of the exit, 0.6 s together.
    """
    fresh = "torch" not in sys.modules and gc.isenabled()
    if fresh:
        gc.disable()
    try:
        yield
    finally:
        if fresh:
            gc.freeze()
            gc.enable()


def exit_code(run: Callable[[], int], stopped: str) -> int:
    """The return value of ``run``; 2 and one sentence for an error of the user; 130 and ``stopped`` for Ctrl-C.

    141 where the reader of a pipe has gone (``pixel2style models | head``), as shells report it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files that the terminal cannot show cost no work
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:  # files of ours raise NoRoomError
            raise
        _drop_output()
        complain("what is printed cannot be written: the disk is full")
        return 2
    except Pixel2StyleError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain(stopped)
        return 130


def _drop_output() -> None:
    """Let what is still to be printed go nowhere: Python flushes once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parsed(parse: Callable[[], Read], explained: Callable[[BaseException], str | None] = lambda _: None) -> Read:
    """The result of tyro's ``parse``. Exits with 0 after help, with 2 and one line for a mistake.

    ``explained`` may have a better sentence than tyro for the first exception behind the mistake.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return parse()
    except SystemExit as end:
        if end.code:
            complain((end.__context__ and explained(_root(end))) or _in_words(_unboxed(box.getvalue())))
        raise


def _root(error: BaseException) -> BaseException:
    """The first error of a chain."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _unboxed(box: str) -> str:
    """The sentences of tyro's message, without its title and its frame, on one line."""
    framed = box.startswith("╭")  # else, where the terminal is not Unicode, the title is a section of its own
    inside = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections = [" ".join(section.split()).rstrip(".") for section in re.split(r"[─-]{4,}", " ".join(inside))]
    kept = [section for section in sections[not framed :] if not section.startswith("Argument helptext")]
    return "; ".join(_did_you_mean(section) for section in kept).replace("?;", "?")


NUMBERS = {"INT": "a whole number", "FLOAT": "a number", "int": "a whole number", "float": "a number"}


def _in_words(sentence: str) -> str:
    """tyro's sentence, in words where it speaks of Python's types or of words that begin with a dash."""
    wrong = re.match(r"Error parsing (--[\w.-]+): .*?\b(INT|FLOAT)\b.*? from \['(.*?)'\]", sentence)
    wrong = wrong or re.match(r"Error parsing (--[\w.-]+): .*?\b(int|float)\b[^:]*: '(.*?)'(?:;|$)", sentence)
    if wrong:
        return f"{wrong[1]} is {NUMBERS[wrong[2]]}, not {wrong[3]!r}"
    choice = re.match(r"invalid choice ('.*?') for argument '(--[\w.-]+)'\. Expected one of \((.*?)\)", sentence)
    if choice:
        names = [name for name in re.findall(r"'(.*?)'", choice[3]) if name != "None"]
        return f"{choice[2]} is one of {', '.join(sorted(names))}; not {choice[1]}"
    missing = re.match(r"Missing from (pixel2style [\w-]+): (.*)", sentence)
    if missing:
        needed = re.findall(r"(?:^|\(required\) )(--\S+ \S+|[^\s;]+)", missing[2])
        return f"{missing[1]} needs {', '.join(needed)}: see {missing[1]} --help"
    other = re.match(r"Unrecognized or misplaced options: (--[^\s;]+) \(applied to ([^)]+)\)", sentence)
    if other:
        return f"{other[2]} has no {other[1]}, as other commands have: see {other[2]} --help"
    unknown = re.match(r"Unrecognized options: (-[^-\s;][^\s;]*\.\w+)(?:;|$)", sentence)
    if unknown:
        return f"{unknown[1]} looks like an option: write -- before files whose names begin with a dash"
    return sentence


def _did_you_mean(section: str) -> str:
    """tyro's list of similar options, with the help of each, as their names."""
    if not section.startswith("Perhaps you meant:"):
        return section
    names = [name for name in re.findall(r"(?<!\S)--[\w.-]+", section) if name != "--help"]
    return f"did you mean {' or '.join(dict.fromkeys(names))}?"
