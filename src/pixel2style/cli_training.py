"""The commands ``train`` and ``doctor``: a preset's name or a run's config.json, then single fields of it.

    pixel2style train superres-compact --data photos --out runs/mine --loss.lpips 0.5
    pixel2style train runs/mine/config.json --out runs/again

Help and mistakes come without torch. This module does not know what a run does (``train``).
"""

import contextlib
import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from . import terminal
from .config import TrainConfig
from .errors import ConfigError
from .presets import PRESETS

if TYPE_CHECKING:
    from .train import Watch

USAGE = {
    "train": """usage: pixel2style train PRESET --data FOLDER... --out RUN [--FIELD VALUE ...]

Teach an encoder. The same command again continues the run. PRESET is one of those below, or the config.json of a run,
which repeats it. All fields and their values in a preset: pixel2style train PRESET --help""",
    "doctor": """usage: pixel2style doctor PRESET --data FOLDER... [--FIELD VALUE ...]

Check, before a long run, that it can work: device, memory, data, generator, disk, and whether ten pictures can be
learned. PRESET and fields are those of train.""",
}
FIRST = ("invert", "frontalize", "sketch", "segmentation", "superres", "inpaint", "toonify", "domain")


def configuration(command: str, words: Sequence[str]) -> TrainConfig:
    """What the command line asks for. Leaves with 0 after help, with 2 and one line otherwise."""
    if not words or words[0] in ("-h", "--help"):
        print(f"{USAGE[command]}\n\npresets:")
        for name, preset in PRESETS.items():
            print(f"  {name:<22} {preset.about}")
        raise SystemExit(0)
    name, rest = _named(list(words))
    default = _default(name)
    about = PRESETS[name].about if name in PRESETS else f"the run of {name}"
    return terminal.parsed(
        lambda: tyro.cli(
            TrainConfig, prog=f"pixel2style {command} {name}", description=about, default=default, args=rest
        )
    )  # fmt: skip


def _named(words: list[str]) -> tuple[str, list[str]]:
    """The preset, which stands first, or last where other words come first."""
    if not words[0].startswith("-"):
        return words[0], words[1:]
    if not words[-1].startswith("-") and (words[-1] in PRESETS or words[-1].endswith(".json")):
        return words[-1], words[:-1]
    raise ConfigError(f"name a preset first: {', '.join(FIRST)}, one of these with -compact, tiny, or a config.json")


def _default(name: str) -> TrainConfig:
    if name in PRESETS:
        return PRESETS[name].config
    if name.endswith(".json") or Path(name).exists():
        from .runs import read_config

        file = Path(name)
        return read_config(file / "config.json" if file.is_dir() else file)
    near = difflib.get_close_matches(name, PRESETS, 1)
    hint = (
        f"did you mean {near[0]}?" if near else f"choose one of {', '.join(FIRST)}, one of these with -compact, or tiny"
    )
    raise ConfigError(f"there is no preset {name!r}: {hint}")


def train(words: Sequence[str]) -> int:
    """Teach an encoder: photographs, sketches, label maps or your own pairs into a frozen generator."""
    config = configuration("train", words)
    from .stopping import Stop
    from .train import fit

    stop = Stop()
    with _watched(config) as watch:
        state = fit(config, watch, stop)
    if stop.signal is not None:
        terminal.complain(f"stopped and saved at step {state.step}; the same command goes on from there")
        return 128 + stop.signal
    print(f"step {state.step}: {Path(config.out) / 'model.safetensors'}")
    return 0


@contextlib.contextmanager
def _watched(config: TrainConfig) -> Iterator["Watch"]:
    """A bar with losses and time left where a person watches, a line at every logged step elsewhere."""
    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=config.steps)

        def moved(step: int, losses: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            if losses:
                shown = {name: value for name, value in losses.items() if "_look" not in name}
                progress.update(task, description=" ".join(f"{name} {value:.3g}" for name, value in shown.items()))

        yield moved


def _line(step: int, losses: Mapping[str, float]) -> None:
    if losses:
        print(f"step {step}", *(f"{name} {value:.4g}" for name, value in losses.items()), flush=True)


def doctor(words: Sequence[str]) -> int:
    """Say what is fit for a run and what is not; 2 when something is not."""
    config = configuration("doctor", words)
    from .doctor import examine

    marks = {True: "ok", False: "WRONG", None: "note"}
    wrong = 0
    for finding in examine(config):
        wrong += finding.ok is False
        print(f"{marks[finding.ok]:<6} {finding.check:<11} {finding.said}", flush=True)
    if wrong:
        terminal.complain(f"{wrong} of these would stop or spoil the run: mend what is marked WRONG")
    return 2 if wrong else 0
