"""Rewrite a file in our format or in a layout that other projects read."""

from pathlib import Path
from typing import Literal

from ..formats import torch_files
from ..generators import Generator
from ..models.psp import PSP
from . import native
from .layouts import writers
from .loading import load_any

Layout = Literal["ours", "psp", "rosinality", "nvidia-state"]


def convert(source: str | Path, out: str | Path, to: Layout = "ours", *, generator: str | Path | None = None) -> str:
    """Rewrite any readable model or generator as one complete file; returns a few words that describe it.

    Layouts other than ours are PyTorch files: psp for the code of pSp, e4e or ReStyle, whichever the model belongs to;
    rosinality and nvidia-state hold the generator alone. ``generator`` completes an encoder that is there without its
    own, as in ``load``. Raises as ``load`` and ``save`` do, and ConfigError where a layout has no room for the model.
    """
    model = load_any(source, generator=generator)
    if to == "ours":
        native.save(model, out)
        return _described(model)
    torch_files.write(writers.content(model, to), out)
    alone = model.generator if isinstance(model, PSP) and to != "psp" else model
    return f"{_described(alone)} for {to}"


def _described(model: PSP | Generator) -> str:
    """A model in a few words."""
    if isinstance(model, PSP):
        encoder = model.config.encoder
        return f"pSp model, {encoder.kind} encoder, {encoder.rows} rows, {model.config.generator.size} pixels"
    return f"{model.config.kind} generator, {model.rows} rows, {model.size} pixels"
