"""Checkpoints: files of models and generators, ours and those of other projects, found, read, written and described."""

from ..formats.safetensors import write as save_tensors
from .convert import Layout, convert
from .detail import load_detail
from .loading import bundled_generator, lacks_generator, load, load_generator
from .native import DEFAULT_GENERATOR, SUFFIX, bundled_like, save
from .resolve import find, local

__all__ = [
    "DEFAULT_GENERATOR", "SUFFIX", "Layout", "bundled_generator", "bundled_like", "convert", "find",
    "lacks_generator", "load", "load_detail", "load_generator", "local", "save", "save_tensors",
]  # fmt: skip
