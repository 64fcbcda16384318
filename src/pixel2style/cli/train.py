"""``pixel2style train``: a preset or the configuration of a run, and options that change fields of it.

    pixel2style train superres-compact --data photos --out runs/mine --loss.lpips 0.5
    pixel2style train runs/mine/config.json --out runs/again

tyro parses the words (``overridable_config_cli``). Done here is what it does not do: the configuration of a run as a
preset, a preset as the last word, ``--mirror True`` beside ``--mirror``, former names of options, and one sentence for
every mistake. Help and mistakes are quick, since they need no torch.
"""

import contextlib
import difflib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import ConfigError, TrainingError, complain
from . import terminal

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..training.monitor import Watch

ABOUT = """Train an encoder on your own pictures. The same command again resumes the run.

  pixel2style train PRESET --data FOLDER... --out RUN [--OPTION VALUE ...]

PRESET, first or last, is one of those below, or the folder or config.json of a run, which repeats it (into another
--out). Options change fields of the preset:

  pixel2style train PRESET --help       all options, and their values in that preset
  --loss.lpips 0.5                      options of a group have the group's name before theirs
  --mirror, --no-mirror                 yes or no; or --mirror True, --mirror False
  --data ONE TWO --track tensorboard    several values follow one another"""
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def train(words: Annotated[tuple[str, ...], tyro.conf.Positional], /) -> int:
    """Train an encoder on your own pictures, by a preset."""
    config = parse_config("train", ABOUT, words)
    from torch import OutOfMemoryError

    from ..training.loop import fit
    from ..training.stopping import Stop

    stop = Stop()
    try:
        with _progress(config) as watch:
            state = fit(config, watch, stop, lambda sentence: print(sentence, flush=True))
    except OutOfMemoryError as error:
        raise TrainingError(
            "the device's memory is full: the same command with --accumulate 2 or more, or with --checkpointing, "
            "continues with less"
        ) from error
    if stop.signal is not None:
        if _is_first_process():
            complain(f"stopped and saved at step {state.step}; the same command continues from there")
        return 128 + stop.signal
    if _is_first_process():
        file = Path(config.out) / "model.safetensors"
        if state.step < config.steps:
            print(f"time is up at step {state.step} of {config.steps}; the same command continues from there: {file}")
        else:
            print(f"finished at step {state.step}, more with --steps: {file}")
    return 0


def parse_config(command: str, about: str, words: Sequence[str]) -> "TrainConfig":
    """The configuration that the words after ``command`` describe.

    Exits with 0 after help, with 2 and one line for wrong options and values. Raises ConfigError for a preset or a
    file that does not exist.
    """
    from ..tasks import load_installed
    from ..tasks.presets import PRESETS

    failures = load_installed()
    if not words or tuple(words) in (("-h",), ("--help",)):
        for sentence in failures.values():
            complain(sentence)
        presets = {name: (preset.about, preset.config) for name, preset in PRESETS.items()}
        return _parse(command, about, presets, ["--help"])
    name, rest = (words[-1], words[:-1]) if words[0].startswith("-") else (words[0], words[1:])
    if name in PRESETS:
        preset = PRESETS[name].about, PRESETS[name].config
    else:
        name, preset = "RUN", (f"The run of {name}, again", _read_run(name))
    return _parse(command, about, {name: preset}, [name, *_as_tyro_takes(rest)])


def _parse(
    command: str, about: str, presets: Mapping[str, tuple[str, "TrainConfig"]], words: Sequence[str]
) -> "TrainConfig":
    def parse() -> "TrainConfig":
        prog = f"pixel2style {command}"
        return tyro.extras.overridable_config_cli(presets, prog=prog, description=about, args=words)

    return terminal.parsed(parse, _refused_value)


def _read_run(name: str) -> "TrainConfig":
    """The configuration of a run, from its folder or its config.json."""
    if name.endswith(".json") or Path(name).exists():
        from ..training.run_folder import read_config

        file = Path(name)
        return read_config(file / "config.json" if file.is_dir() else file)
    from ..tasks import load_installed
    from ..tasks.presets import PRESETS

    for task, sentence in load_installed().items():
        if name.startswith(task):
            raise ConfigError(sentence)
    near = difflib.get_close_matches(name, PRESETS, 1)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
    raise ConfigError(f"{name} is no preset and no config.json of a run; name one first or last: {meant}")


def _as_tyro_takes(words: Sequence[str]) -> list[str]:
    """``--mirror True`` and ``--mirror=no`` as flags, ``--OPTION=VALUE`` as two words, former names as present ones.

    Raises ConfigError for a flag with another value.
    """
    from ..config import RENAMED, TrainConfig

    flags = {field.name for field in fields(TrainConfig) if field.type is bool}
    taken: list[str] = []
    flag = ""  # the flag just read: the next word may be its value
    for word in words:
        if not word.startswith("--"):
            if flag and not word.startswith("-"):
                taken[-1] = _flag(flag, word)
            else:
                taken.append(word)
            flag = ""
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        name = RENAMED.get(name, name)
        flag = name if name.removeprefix("no_") in flags else ""
        taken.append(f"--{name.replace('_', '-')}")
        if equals and flag:
            taken[-1], flag = _flag(flag, value), ""
        elif equals:
            taken.append(value)
    return taken


def _flag(name: str, value: str) -> str:
    field = name.removeprefix("no_").replace("_", "-")
    if value.lower() not in TRUTH:
        raise ConfigError(f"--{field} is yes or no: write --{field} True or --{field} False, not {value}")
    return f"--{field}" if TRUTH[value.lower()] != name.startswith("no_") else f"--no-{field}"


def _refused_value(reason: BaseException) -> str | None:
    """What is wrong with a value that the configuration refused; None for other errors."""
    from pydantic import ValidationError

    from ..config import TrainConfig

    if not isinstance(reason, ValidationError):
        return None
    first = reason.errors()[0]
    groups = {type(value).__name__: f"{name}." for name, value in vars(TrainConfig()).items() if is_dataclass(value)}
    field = str(first["loc"][0]).replace("_", "-")
    must = first["msg"].removeprefix("Input should be ")
    return f"--{groups.get(reason.title, '')}{field} must be {must}, not {first['input']}"


def _is_first_process() -> bool:
    """Whether this is the first of several processes, or the only one: launchers number them."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"))


@contextlib.contextmanager
def _progress(config: "TrainConfig") -> Iterator["Watch | None"]:
    """A bar with losses and remaining time in a terminal, a line at every logged step elsewhere."""
    if not _is_first_process() or not sys.stderr.isatty():
        yield _line_printer(config.steps, config.minutes) if _is_first_process() else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=config.steps)

        def update(step: int, losses: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            if losses:
                progress.update(task, description=" ".join(_shown(losses)))

        yield update


def _line_printer(steps: int, minutes: float = 0) -> Callable[[int, Mapping[str, float]], None]:
    """Print a line at every logged step, with the remaining time: that of the steps, or of ``minutes``."""
    start: list[tuple[float, int]] = []

    def line(step: int, losses: Mapping[str, float]) -> None:
        start.append((time.monotonic(), step)) if not start else None
        if losses:
            passed, taken = time.monotonic() - start[0][0], step - start[0][1]
            seconds = (steps - step) * passed / taken if taken else 0.0
            seconds = min(seconds, max(0.0, 60 * minutes - passed)) if minutes else seconds
            left = f" ({_duration(seconds)} left)" if taken and step < steps else ""
            print(f"step {step} of {steps}{left}", *_shown(losses), flush=True)

    return line


def _duration(seconds: float) -> str:
    if seconds > 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def _shown(losses: Mapping[str, float]) -> Iterator[str]:
    """Losses of the last iteration; those of earlier ones are in the log."""
    return (f"{name} {value:.4g}" for name, value in losses.items() if "_look" not in name)
