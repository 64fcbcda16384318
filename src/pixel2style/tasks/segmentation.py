"""A label map to a face (pSp, section 4.3). Sources are files (``label_maps``) or what the parser finds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import LossConfig, SourceConfig
from ..errors import ConfigError
from . import recipes
from .task import OTHER_FACES, OfficialDataset, Task, never

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LOSS = LossConfig(l2=1, lpips=0.8, identity=0, w_norm=0.005)


def class_count(config: SourceConfig) -> int:
    """One channel for each class."""
    return config.classes


def with_colours(config: SourceConfig) -> SourceConfig:
    """The settings with the colours of the classes read from the file that lists them.

    Raises ConfigError for a table of colours that does not fit, and for classes with sides that are no pairs.
    """
    from . import label_maps

    if (
        len(config.sided) % 2
        or len(set(config.sided)) < len(config.sided)
        or max(config.sided, default=0) >= config.classes
    ):
        raise ConfigError(
            f"--source.sided lists classes below {config.classes} two by two, each once: as 4 5 6 7 for two pairs"
        )

    return replace(config, colours=label_maps.colour_table(config))


def read(path: Path, side: int, config: SourceConfig) -> "Tensor":
    """The label map in a file: ``[classes side side]``. Raises as ``label_maps.read`` does."""
    from . import label_maps

    return label_maps.read(path, side, config)


def check(path: Path, config: SourceConfig) -> None:
    """Raise ImageError if the file is no label map, or holds a class that ``config`` does not have."""
    from . import label_maps

    label_maps.classes_in(path, config)


def labelled(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """The regions of a face as the bundled parser sees them: ``[19 s s]``.

    Raises ConfigError where the model has other classes than the parser.
    """
    from ..metrics import parsing
    from . import label_maps

    if config.classes != len(parsing.CLASSES):
        raise ConfigError(
            f"the bundled parser finds {len(parsing.CLASSES)} classes, not {config.classes}: give label maps"
        )
    return label_maps.one_hot(parsing.regions(target[None])[0], config.classes)


def mirrored(source: "Tensor", config: SourceConfig) -> "Tensor | None":
    """A mirrored map ``[classes s s]``, None where it is not known which classes have sides."""
    if not config.sided:
        return None
    order = list(range(config.classes))
    for first, second in zip(config.sided[::2], config.sided[1::2], strict=True):
        order[first], order[second] = second, first
    return source[order].flip(-1)


def rough(source: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """A map ``[classes s s]`` drawn less carefully."""
    from . import label_maps

    return label_maps.rough(source, rng)


def agreement(source: "Tensor", config: SourceConfig) -> "Callable[[Tensor], Tensor] | None":
    """How little the regions of drawn pictures agree with a map; None where its classes are not those of the parser.

    Other maps may have as many classes, but hardly the same ones with sides.
    """
    from ..metrics import parsing

    pairs = {frozenset(pair) for pair in zip(config.sided[::2], config.sided[1::2], strict=True)}
    if config.classes != len(parsing.CLASSES) or pairs != set(map(frozenset, parsing.SIDED)):
        return None
    return partial(parsing.disagreement, labels=source.argmax(0))


def example(drawn: "Tensor", config: SourceConfig) -> "Tensor":
    """Label maps ``[n classes s s]`` of drawn pictures: the class of a pixel is its brightness."""
    from torch.nn import functional

    gray = drawn.mean(1) / 2 + 0.5
    classes = (gray * (config.classes - 1)).long()
    return functional.one_hot(classes, config.classes).permute(0, 3, 1, 2).float()


def official_settings(options: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Official files do not list the classes: there is one for each channel."""
    return {"classes": channels}


TASK = Task(
    "a label map to a face",
    presets=recipes.presets(
        "segmentation", "label map -> face", recipes.paper("segmentation", LOSS), recipes.compact("segmentation", LOSS)
    ),
    channels=class_count,
    values="a channel for each class, 1 where it is and 0 elsewhere",
    classes=True,
    source=labelled,
    settings=with_colours,
    read=read,
    check=check,
    mirrored=mirrored,  # classes have sides (a left eye)
    vary=rough,
    agreement=agreement,
    example=example,
    photograph=False,
    variation=OTHER_FACES,
    options={
        "make_labels": "pictures are photographs: find their regions first.",
        "colours": "a file with the colour of each class of the model, #rrggbb, one a line, for maps in other colours.",
        "like": "a photograph whose --rows (colours, light) the result takes.",
    },
    random=never,
    official=OfficialDataset("celebs_seg_to_face", ("psp",), settings=official_settings),
)
