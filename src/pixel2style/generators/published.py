"""Layouts in which other projects publish generators: how to recognise, read and write each of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .base import Generator


@dataclass(frozen=True)
class Published:
    """One layout of one generator's files.

    A file is recognised by ``keys`` (names of tensors, below any prefix). ``read`` raises CheckpointError for tensors
    that do not fit, ``refuse`` and ``write`` ConfigError for a generator that the layout has no room for.
    """

    kind: str
    """Its name in the package."""
    about: str
    """Its name in messages: "a StyleGAN2 generator"."""
    network: type[Generator]
    keys: tuple[str, ...]
    """Tensors that all files of this layout have, and no others."""
    parts: tuple[str, ...]
    """Prefixes of the network's parts that may lie in dictionaries of their own."""
    read: Callable[[Mapping[str, Tensor], Tensor | None, Mapping[str, Any], str], Generator]
    """``(weights, average [n d] beside them, arguments it was built with, source for messages)`` to the generator."""
    layout: str
    """Name of the layout for ``convert --to``."""
    refuse: Callable[[Any], None]
    write: Callable[[Any], dict[str, Any]]
    """A generator to the dictionary that a PyTorch file holds."""
