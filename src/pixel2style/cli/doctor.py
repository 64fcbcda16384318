"""``pixel2style doctor``: whether a run can work, with the presets and options of ``train``."""

from typing import Annotated

import tyro

from ..errors import complain
from . import progress
from .train import parse_config

ABOUT = """Check before a long run that it can work: device, memory, data, generator, disk, and whether the loss on ten
pictures falls. Nothing is written. PRESET and options are those of train.

  pixel2style doctor PRESET --data FOLDER... [--OPTION VALUE ...]"""


def doctor(words: Annotated[tuple[str, ...], tyro.conf.Positional], /) -> int:
    """Check before a long run that it can work; exit code 2 when something is wrong."""
    config = parse_config("doctor", ABOUT, words)
    from ..training.doctor import examine

    marks = {True: "ok", False: "WRONG", None: "note"}
    wrong = 0
    with progress.doing("importing") as doing:
        for finding in examine(config, doing):
            wrong += finding.ok is False
            print(f"{marks[finding.ok]:<6} {finding.check:<11} {finding.message}", flush=True)
    if wrong:
        complain(f"{wrong} of these would stop or spoil the run: correct what is marked WRONG")
    return 2 if wrong else 0
