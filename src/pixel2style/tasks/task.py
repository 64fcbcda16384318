"""What a task is, as one value: how its sources are made, read, prepared and trained on.

Presets and help lines have to be readable without torch, so modules of tasks import torch inside their functions.

Axes: ``c`` channels of a source, ``s`` its side, ``n`` pictures, ``b`` those of a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..config import ModelConfig, SourceConfig, TrainConfig

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from .request import Photograph, Prepared, Request

    MakeSource = Callable[[Tensor, torch.Generator, SourceConfig], Tensor]
    """From a target ``[3 s s]`` in [-1, 1], on any device, to its source ``[c s s]``. All randomness comes from the
    generator, which is on the CPU."""
    ReadSource = Callable[[Path, int, SourceConfig], Tensor]
    """From a source's file, a side and the settings to the source ``[c side side]``."""
    Doubts = Callable[[Image.Image], tuple[str, ...]]
    """From the picture in a source's file, in RGB, to notes."""
    Vary = Callable[[Tensor, torch.Generator, SourceConfig], Tensor]
    """From a source ``[c s s]`` to one that is drawn less carefully."""
    Mirrored = Callable[[Tensor, SourceConfig], Tensor | None]
    """From a source ``[c s s]`` to that of the mirrored target, None where that is not known."""
    Settings = Callable[[SourceConfig], SourceConfig]
    CheckFile = Callable[[Path, SourceConfig], object]
    CheckRequest = Callable[[Request, ModelConfig], None]
    Prepare = Callable[[Photograph, Request, ModelConfig], Prepared]
    Random = Callable[[Request], bool]
    Example = Callable[[Tensor, SourceConfig], Tensor]
    Degradation = Callable[[Tensor], Tensor]
    Shown = Callable[[Tensor, Tensor, Degradation | None], Tensor]
    """From sources ``[b c h w]``, the pictures that their rows draw (``[b 3 s s]`` of any size, in [-1, 1]), and the
    degradation that made the sources (``Prepared.degradation``), to pictures ``[b 3 h w]``."""

    Agreement = Callable[[Tensor, SourceConfig], Callable[[Tensor], Tensor] | None]
    """From a source ``[c s s]`` and the settings to what gives, of drawn pictures ``[b 3 s s]``, how little each agrees
    with it: ``[b]``, with a gradient. None where these settings have no such loss."""

    Degraded = Callable[[Tensor, torch.Generator, SourceConfig], tuple[Tensor, Degradation | None]]
    """From what ``MakeSource`` takes to the source, and to what degrades drawn pictures ``[b 3 s s]`` alike."""

Family = Literal["psp", "e4e", "restyle"]
OTHER_FACES = "4-", 0.7
"""A ``Task.variation`` that draws other people: drawings and label maps say nothing of skin, beards or backgrounds, and
a third of the drawn rows keeps mouth and eyes. Only late rows, but all of them, would keep the face and tint it."""

FOLLOWING = 3
"""Steps in which a face follows its drawing closely, where a task has an ``agreement``. More go on, less and less."""


def unchanged(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """The target itself is the source."""
    return target


def whole(sources: "Tensor", drawn: "Tensor", degradation: "Degradation | None") -> "Tensor":
    """Sources that are photographs, for a detail encoder: they show everything."""
    return sources


def never(request: "Request") -> bool:
    """Sources of users' pictures that do not depend on the seed."""
    return False


def _no_settings(options: Mapping[str, Any], channels: int) -> dict[str, Any]:
    return {}


def _no_options(config: SourceConfig) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Preset:
    """A run by name: ``about`` is its line in the help."""

    about: str
    config: TrainConfig


@dataclass(frozen=True)
class OfficialDataset:
    """What the code of pSp, e4e and ReStyle calls a task: its ``dataset_type``, and options that belong to it."""

    name: str
    families: tuple[Family, ...] = ()
    """Whose code looks this name up."""
    prefixes: tuple[str, ...] = ()
    """How other names begin that mean the same task; the first task with a match is taken."""
    settings: Callable[[Mapping[str, Any], int], dict[str, Any]] = _no_settings
    """From the options in a file and the channels of a source to fields of SourceConfig."""
    options: Callable[[SourceConfig], dict[str, Any]] = _no_options
    """From our settings to options that pSp's code reads."""


@dataclass(frozen=True)
class Task:
    """One task. A new one needs ``about``, usually ``source``, and whatever differs from the defaults."""

    about: str
    """What goes in and what comes out, in one sentence: for help, documents and model cards."""
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """Training runs by name, as ``pixel2style train NAME`` takes them."""
    model: str = ""
    """The bundled model that ``translate`` takes by default; "" means the one with the name of the task."""

    channels: int | Callable[[SourceConfig], int] = 3
    """Channels of a source, or a function of the settings."""
    values: str = ""
    """What the numbers in a source mean; "" for RGB (3 channels) and gray (1 channel)."""
    classes: bool = False
    """Whether channels are classes, of which each pixel has exactly one."""
    faces: bool = True
    """Whether targets are aligned faces. If not, no face is looked for, and the identity loss makes no sense."""
    variation: tuple[str, float] = ("8-", 1.0)
    """Rows that samples replace by new ones, and how much, unless a user says: by default all of colour and texture."""
    refinable: bool = False
    """Whether rows may be optimised so that the result matches the source: its first three channels then are the
    target, or a degraded version of it."""

    agreement: "Agreement | None" = None
    """Tells how little drawn pictures agree with a source that is no photograph; rows then take steps until they do.
    None: nobody can tell."""

    shown: "Shown | None" = None
    """Makes what a detail encoder gets as photograph: what the source shows of the target, and what the rows draw
    elsewhere. None: results of this task are drawn from rows alone."""

    degraded: "Degraded | None" = None
    """Makes a source as ``source`` does, and tells how, for the training of detail encoders; None where sources are not
    degraded targets."""

    source: "MakeSource | None" = unchanged
    """Makes the source of a target; None if sources can only be files."""
    read: "ReadSource | None" = None
    """Reads the source in a file; None for photographs (3 channels, [-1, 1]) and gray pictures (1 channel, [0, 1])."""
    settings: "Settings | None" = None
    """Reads what settings of sources name outside themselves (a file that lists colours); None if they name nothing."""
    check: "CheckFile | None" = None
    """Decodes a source's file before training and raises ImageError if it cannot be used; None if a look at the
    file's header is enough."""
    mirror: Literal["together", "apart", "never"] = "together"
    """Whether training mirrors source and target as one, independently, or not at all."""
    mirrored: "Mirrored | None" = None
    """Mirrors a source that is read from a file, with "together"; None: its pixels are mirrored."""
    vary: "Vary | None" = None
    """Changes the sources of training at random, with ``augment``, so that rough ones are understood; None: as made."""
    example: "Example | None" = None
    """Makes typical sources ``[n c s s]`` of drawn pictures ``[n 3 s s]``, to test exported graphs with; None if
    ``source`` does."""

    doubts: "Doubts | None" = None
    """What makes a file of a source look like something else, as sentences without a subject; None: nothing does."""

    photograph: bool = True
    """Whether users of ``translate`` bring photographs, which are cut to the face; else they bring files of sources."""
    prepare: "Prepare | None" = None
    """Makes the source of a user's photograph; None: the aligned photograph, or ``source`` of it if it has not 3
    channels."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of ``translate`` (fields of Request) that not every task has, and their help."""
    random: "Random | None" = None
    """Whether the seed of a request decides what the source of a user's picture is; None: wherever ``prepare`` or
    ``source`` makes one."""
    check_request: "CheckRequest | None" = None
    """Raises ConfigError for values of these options that cannot work with a model."""

    official: OfficialDataset | None = None
    """What official checkpoints call it."""

    @property
    def inverts(self) -> bool:
        """Whether the source is the target and the result is to show it again."""
        return self.refinable and self.source is unchanged
