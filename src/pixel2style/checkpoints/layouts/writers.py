"""Layouts of other projects that models are written in, and which networks each has room for."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from ...errors import ConfigError
from ...generators import PUBLISHED, Generator
from ...models.psp import PSP
from . import psp


class Writer(NamedTuple):
    """How networks of one class are written in one layout."""

    layout: str
    network: type[nn.Module]
    refuse: Callable[[Any], None]
    """Raises ConfigError, in a sentence that says what would work, for a network that the layout has no room for."""
    content: Callable[[Any], dict[str, Any]]
    """The dictionary that the file holds. Raises as ``refuse``."""


WRITERS = (
    Writer("psp", PSP, psp.refuse, psp.state),
    *(Writer(one.layout, one.network, one.refuse, one.write) for one in PUBLISHED.values()),
)


def content(model: PSP | Generator, layout: str) -> dict[str, Any]:
    """The dictionary that a PyTorch file of a layout holds; of a model all but psp hold the generator alone.

    Raises ConfigError, in a sentence that says what would work, where the layout has no room for it.
    """
    part = _part(model, layout)
    for writer in WRITERS:
        if writer.layout == layout and isinstance(part, writer.network):
            return writer.content(part)
    choices = " or ".join(f"choose --to {one}" for one in layouts(part)) or "keep it as ours"
    if layout == "psp":
        raise ConfigError(f"pSp's layout holds a whole model, and this is a generator: {choices}")
    known = " and ".join(writer.network.__name__ for writer in WRITERS if writer.layout == layout)
    raise ConfigError(f"{layout} is a layout for {known}, and this generator is a {type(part).__name__}: {choices}")


def layouts(model: nn.Module) -> list[str]:
    """The layouts that have room for a model, which may be on the meta device."""
    return [layout for layout in dict.fromkeys(writer.layout for writer in WRITERS) if _has_room(model, layout)]


def _has_room(model: nn.Module, layout: str) -> bool:
    part = _part(model, layout)
    for writer in WRITERS:
        if writer.layout == layout and isinstance(part, writer.network):
            try:
                writer.refuse(part)
            except ConfigError:
                return False
            return True
    return False


def _part(model: nn.Module, layout: str) -> nn.Module:
    return model.generator if isinstance(model, PSP) and layout != "psp" else model
