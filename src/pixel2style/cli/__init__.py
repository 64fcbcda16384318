"""The command ``pixel2style``. Each command is a module with a function of its name, entered in ``COMMANDS``.

Exit codes: 0 done; 2 a mistake of the user, explained in one line on stderr (a line for each photograph that failed;
the others are done); 1 an error of ours, with a traceback; 130 stopped by Ctrl-C, with what was finished kept. Commands
import what is heavy inside their functions, so that help is quick.
"""

import difflib
import functools
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from .. import __version__
from ..errors import complain
from . import (
    align,
    convert,
    directions,
    doctor,
    edit,
    evaluate,
    export,
    fetch,
    find_directions,
    inspect,
    invert,
    mix,
    models,
    morph,
    paint,
    parse,
    refine,
    sketch,
    studio,
    terminal,
    train,
    translate,
)

DESCRIPTION = """Encode photographs of faces into StyleGAN's W+ in one forward pass, and draw them again.

  pixel2style invert me.jpg --out results      one photograph
  pixel2style invert holidays --out results    a folder and the folders in it
  pixel2style COMMAND --help                   all about one command
  pixel2style --version

Completion of words by the Tab key, in bash (zsh likewise):

  pixel2style --tyro-print-completion bash > ~/.local/share/bash-completion/completions/pixel2style"""

OPEN: dict[str, Callable[..., int]] = {"train": train.train, "doctor": doctor.doctor}
"""Commands that parse their own words, because a preset decides what the options are."""
COMMANDS: dict[str, Callable[..., int]] = {
    "invert": invert.invert,
    "refine": refine.refine,
    "edit": edit.edit,
    "mix": mix.mix,
    "morph": morph.morph,
    "paint": paint.paint,
    "directions": directions.directions,
    "find-directions": find_directions.find_directions,
    "translate": translate.translate,
    "studio": studio.studio,
    "align": align.align,
    "parse": parse.parse,
    "sketch": sketch.sketch,
    "evaluate": evaluate.evaluate,
    "inspect": inspect.inspect,
    "convert": convert.convert,
    "fetch": fetch.fetch,
    "export": export.export,
    "models": models.models,
    **OPEN,
}


WAITING = {"GOMP_SPINCOUNT": "2000"}
"""Environment of commands: OpenMP's threads give up the processor soon while they wait for each other.

By default they keep it for milliseconds, which costs more than it gains as soon as another program is busy
(docs/results.md). ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY`` of the user takes precedence.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv`` when None) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Warnings of libraries are for developers; what a user must know is said by an error's sentence.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.update(WAITING | os.environ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if words == ["--version"]:
            print(f"pixel2style {__version__}")
            return 0
        return terminal.exit_code(lambda: _parsed(words or ["--help"])(), "stopped; what was finished is kept")


def _parsed(words: Sequence[str]) -> Callable[[], int]:
    """The command that ``words`` mean, ready to be called. Exits with 0 after help, with 2 and one line on mistakes."""
    if not words[0].startswith("-") and words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, 1)
        complain(
            f"there is no command {words[0]!r}: "
            + (f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}")
        )
        raise SystemExit(2)
    overview, helps = words[0].startswith("-"), "-h" in words or "--help" in words
    if words[0] in OPEN:
        return functools.partial(OPEN[words[0]], tuple(words[1:]))
    _refuse_empty(words)

    def later(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
        @functools.wraps(command)
        def bound(*args: Any, **options: Any) -> Callable[[], int]:
            return functools.partial(command, *args, **options)

        about = command.__doc__ or ""
        if overview:
            bound.__doc__ = about.partition("\n")[0]
        elif helps and "{tasks}" in about:
            bound.__doc__ = about.replace("{tasks}", translate.task_names())
        return bound

    def chosen() -> Callable[[], int]:
        command: Callable[[], int] = tyro.extras.subcommand_cli_from_dict(
            {name: later(command) for name, command in COMMANDS.items()},
            prog="pixel2style",
            description=DESCRIPTION,
            args=words,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        return command

    return terminal.parsed(chosen)


def _refuse_empty(words: Sequence[str]) -> None:
    """Exit with 2 and one line for an option whose value is empty: as a path it would mean the current folder."""
    options = itertools.takewhile(lambda pair: pair[0] != "--", itertools.pairwise([*words, "-"]))
    for word, following in options:
        name, equals, value = word.partition("=")
        if name.startswith("--") and not (value if equals else following):
            complain(f"{name} is empty: give it a value, or leave it out")
            raise SystemExit(2)
