"""A label map to a face (pSp, section 4.3). Sources are always files (``label_maps``)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import LossConfig, SourceConfig
from . import recipes
from .task import OfficialDataset, Task

if TYPE_CHECKING:
    from torch import Tensor

LOSS = LossConfig(l2=1, lpips=0.8, identity=0, w_norm=0.005)


def class_count(config: SourceConfig) -> int:
    """One channel for each class."""
    return config.classes


def with_colours(config: SourceConfig) -> SourceConfig:
    """The settings with the colours of the classes read from the file that lists them. Raises ConfigError."""
    from . import label_maps

    return replace(config, colours=label_maps.colour_table(config))


def read(path: Path, side: int, config: SourceConfig) -> "Tensor":
    """The label map in a file: ``[classes side side]``. Raises as ``label_maps.read`` does."""
    from . import label_maps

    return label_maps.read(path, side, config)


def check(path: Path, config: SourceConfig) -> None:
    """Raise ImageError if the file is no label map, or holds a class that ``config`` does not have."""
    from . import label_maps

    label_maps.classes_in(path, config)


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
    source=None,
    settings=with_colours,
    read=read,
    check=check,
    mirror="never",  # classes have sides (a left eye): a mirrored map would be wrong
    example=example,
    photograph=False,
    official=OfficialDataset("celebs_seg_to_face", ("psp",), settings=official_settings),
)
