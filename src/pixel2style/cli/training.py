"""The commands ``train`` and ``doctor``: a preset's name or a run's config.json, then single fields of it.

    pixel2style train superres-compact --data photos --out runs/mine --loss.lpips 0.5
    pixel2style train runs/mine/config.json --out runs/again

Help and mistakes come without torch. This module does not know what a run does (``train``).
"""

import contextlib
import difflib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_origin, get_type_hints

import tyro
from pydantic import ValidationError

from ..config import RENAMED, TrainConfig
from ..errors import ConfigError, TrainingError, complain
from ..tasks import TASKS, load_installed
from ..tasks.presets import PRESETS
from . import terminal

if TYPE_CHECKING:
    from ..training.loop import Watch

USAGE = {
    "train": """usage: pixel2style train PRESET --data FOLDER... --out RUN [--FIELD VALUE ...]

Teach an encoder. The same command again continues the run. PRESET, first or last, is one of those below, or the folder
or config.json of a run, which repeats it (into another --out).

  pixel2style train PRESET --help       all fields, what they mean, and their values in that preset
  --loss.lpips 0.5                      fields in groups have the group's name before theirs
  --mirror, --no-mirror                 yes or no; --mirror True and --mirror False say the same
  --data ONE TWO --track tensorboard    several values follow one another""",
    "doctor": """usage: pixel2style doctor PRESET --data FOLDER... [--FIELD VALUE ...]

Check, before a long run, that it can work: device, memory, data, generator, disk, and whether ten pictures can be
learned. Nothing is written. PRESET and fields are those of train, and mean the same.""",
}
CHOICE = f"{', '.join(TASKS)}, one of these with -compact, tiny, or the config.json of a run"
GROUPS = {"LossConfig": "loss.", "SourceConfig": "source.", "EncoderShape": "encoder."}
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
Kind = Literal["flag", "one", "many"]


def options(shape: type = TrainConfig, prefix: str = "--") -> dict[str, Kind]:
    """Every option by name, and how many words follow it: none, one, or any number."""
    found: dict[str, Kind] = {}
    for name, hint in get_type_hints(shape).items():
        option = prefix + name.replace("_", "-")
        if is_dataclass(hint):
            found |= options(cast(type, hint), f"{option}.")
        elif hint is bool:
            found |= {option: "flag", f"{prefix}no-{option.removeprefix(prefix)}": "flag"}
        else:
            found[option] = "many" if get_origin(hint) is tuple else "one"
    return found


def configuration(command: str, words: Sequence[str]) -> TrainConfig:
    """What the command line asks for. Leaves with 0 after help, with 2 and one line where tyro refuses a value.

    Raises ConfigError for presets, options and files that are not there.
    """
    failures = load_installed()
    if not words or tuple(words) in (("-h",), ("--help",)):
        print(f"{USAGE[command]}\n\npresets:")
        for name, preset in PRESETS.items():
            print(f"  {name:<22} {preset.about}")
        for sentence in failures.values():
            complain(sentence)
        raise SystemExit(0)
    known = options()
    name, rest = _named(list(words), known)
    default = _default(name)
    about = f"{PRESETS[name].about}." if name in PRESETS else f"The run of {name}, again."
    about += " The values in brackets are the preset's. Yes or no is also said as --mirror True, --mirror False."
    return terminal.parsed(
        lambda: tyro.cli(
            TrainConfig, prog=f"pixel2style {command} {name}", description=about, default=default,
            args=_spelled(rest, known),
        ),
        _refused,
    )  # fmt: skip


def _named(words: list[str], known: Mapping[str, Kind]) -> tuple[str, list[str]]:
    """The preset, which stands first, or last where other words come first."""
    if not words[0].startswith("-"):
        return words[0], words[1:]
    *rest, last = words
    if last.startswith("-") or not rest:
        raise ConfigError(f"name a preset first: {CHOICE}")
    many = False  # whether the last word may be one more value of an option that takes any number
    for word in rest:
        many = known.get(_hyphens(word)) == "many" or (many and not word.startswith("-"))
    before = known.get(_hyphens(rest[-1]))
    preset = last in PRESETS or last.endswith(".json") or (Path(last) / "config.json").exists()
    if before in ("one", "many") or (many and not preset):
        near = difflib.get_close_matches(last, PRESETS, 1)
        raise ConfigError(f"name a preset, first or last: {f'did you mean {near[0]}?' if near else CHOICE}")
    return last, rest


def _hyphens(word: str) -> str:
    if not word.startswith("--"):
        return word
    name = word.removeprefix("--").replace("-", "_")
    return f"--{RENAMED.get(name, name)}".replace("_", "-")


def _spelled(words: Sequence[str], known: Mapping[str, Kind]) -> list[str]:
    """The words as tyro wants them: options that exist, flags without a value."""
    spelled: list[str] = []
    flag = None  # the flag just read, to which a word may say yes or no
    for word in words:
        if not word.startswith("--"):
            if flag and not word.startswith("-"):
                spelled[-1] = _flag(flag, word)
            else:
                spelled.append(word)
            flag = None
            continue
        option, equals, value = word.partition("=")
        option = _hyphens(option)
        if option not in known and option != "--help":
            raise ConfigError(f"there is no option {option}{_meant(option, known)}")
        flag = None
        if known.get(option) == "flag":
            flag = None if equals else option
            spelled.append(_flag(option, value) if equals else option)
        else:
            spelled += [option, value] if equals else [option]
    return spelled


def _flag(option: str, word: str) -> str:
    if word.lower() not in TRUTH:
        raise ConfigError(f"{option} is yes or no: write {option} True or {option} False, not {word}")
    group, _, field = option.rpartition(".") if "." in option else ("", "", option.removeprefix("--"))
    prefix = f"{group}." if group else "--"
    yes = TRUTH[word.lower()] != field.startswith("no-")
    return f"{prefix}{'' if yes else 'no-'}{field.removeprefix('no-')}"


def _meant(option: str, known: Iterable[str]) -> str:
    """The option that was meant: of the same last name, or else the nearest spelling."""
    last = option.removeprefix("--").rpartition(".")[2]
    near = [name for name in known if name.removeprefix("--").rpartition(".")[2] == last]
    near = near or difflib.get_close_matches(option, known, 1, 0.6)
    return f": did you mean {' or '.join(near)}?" if near else ": pixel2style train PRESET --help lists them"


def _refused(reason: BaseException) -> str | None:
    """What is wrong with a value, where it was the configuration that refused it."""
    if not isinstance(reason, ValidationError):
        return None
    first = reason.errors()[0]
    field = str(first["loc"][0]).replace("_", "-")
    must = first["msg"].removeprefix("Input should be ")
    return f"--{GROUPS.get(reason.title, '')}{field} must be {must}, not {first['input']}"


def _default(name: str) -> TrainConfig:
    if name in PRESETS:
        return PRESETS[name].config
    if name.endswith(".json") or Path(name).exists():
        from ..training.run_folder import read_config

        file = Path(name)
        return read_config(file / "config.json" if file.is_dir() else file)
    for task, sentence in load_installed().items():
        if name.startswith(task):
            raise ConfigError(sentence)
    near = difflib.get_close_matches(name, PRESETS, 1)
    raise ConfigError(f"there is no preset {name}: {f'did you mean {near[0]}?' if near else f'choose one of {CHOICE}'}")


def train(words: Sequence[str]) -> int:
    """Teach an encoder: photographs, sketches, label maps or your own pairs into a frozen generator."""
    config = configuration("train", words)
    from torch import OutOfMemoryError

    from ..training.loop import fit
    from ..training.stopping import Stop

    stop = Stop()
    try:
        with _watched(config) as watch:
            state = fit(config, watch, stop, lambda sentence: print(sentence, flush=True))
    except OutOfMemoryError as error:
        raise TrainingError(
            "the device's memory is full: the same command with --accumulate 2 or more, or with --checkpointing, goes "
            "on with less"
        ) from error
    if stop.signal is not None:
        if _speaks():
            complain(f"stopped and saved at step {state.step}; the same command goes on from there")
        return 128 + stop.signal
    if _speaks():
        file = Path(config.out) / "model.safetensors"
        if state.step < config.steps:
            print(f"time is up at step {state.step} of {config.steps}; the same command goes on from there: {file}")
        else:
            print(f"finished at step {state.step}, more with --steps: {file}")
    return 0


def _speaks() -> bool:
    """Whether this is the first of several processes, or the only one: launchers number them."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"))


@contextlib.contextmanager
def _watched(config: TrainConfig) -> Iterator["Watch | None"]:
    """A bar with losses and time left where a person watches, a line at every logged step elsewhere."""
    if not _speaks() or not sys.stderr.isatty():
        yield _liner(config.steps) if _speaks() else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=config.steps)

        def moved(step: int, losses: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            if losses:
                progress.update(task, description=" ".join(_shown(losses)))

        yield moved


def _liner(steps: int) -> "Watch":
    """Print a line at every logged step, with the time that is left."""
    begun: list[tuple[float, int]] = []

    def line(step: int, losses: Mapping[str, float]) -> None:
        begun.append((time.monotonic(), step)) if not begun else None
        if losses:
            passed, taken = time.monotonic() - begun[0][0], step - begun[0][1]
            left = f" ({_span((steps - step) * passed / taken)} left)" if taken and step < steps else ""
            print(f"step {step} of {steps}{left}", *_shown(losses), flush=True)

    return line


def _span(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds > 5400
        else f"{seconds / 60:.0f} min"
        if seconds > 90
        else f"{seconds:.0f} s"
    )


def _shown(losses: Mapping[str, float]) -> Iterator[str]:
    """Numbers of the last look; what earlier ones said is in the log."""
    return (f"{name} {value:.4g}" for name, value in losses.items() if "_look" not in name)


def doctor(words: Sequence[str]) -> int:
    """Say what is fit for a run and what is not; 2 when something is not."""
    config = configuration("doctor", words)
    from ..training.doctor import examine

    marks = {True: "ok", False: "WRONG", None: "note"}
    wrong = 0
    for finding in examine(config):
        wrong += finding.ok is False
        print(f"{marks[finding.ok]:<6} {finding.check:<11} {finding.said}", flush=True)
    if wrong:
        complain(f"{wrong} of these would stop or spoil the run: mend what is marked WRONG")
    return 2 if wrong else 0
