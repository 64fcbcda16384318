"""Load a model or a generator from any source: bundled names, our files, files of other projects."""

from pathlib import Path

from .. import assets
from ..config import ModelConfig
from ..generators import Generator
from ..models.psp import PSP
from . import foreign, native
from .resolve import find


def load(source: str | Path) -> PSP:
    """The model in ``source``, on the CPU and in eval mode.

    ``source`` is a bundled name, a file of ours or an official checkpoint of pSp, e4e or ReStyle, by path, by address
    or on the Hugging Face Hub. Raises CheckpointError when it is no such thing or damaged, UnsafeFileError when it
    contains code.
    """
    path = find(source)
    return native.load_model(path) if native.is_ours(path) else foreign.load_model(path)


def load_generator(source: str | Path) -> Generator:
    """The generator in ``source``: of a generator's file (ours, rosinality's, NVIDIA's) or of a model. As ``load``."""
    path = find(source)
    return native.load_generator(path) if native.is_ours(path) else foreign.load_generator(path)


def load_any(source: str | Path) -> PSP | Generator:
    """The model in ``source``, or the generator where it holds no more. As ``load``."""
    path = find(source)
    return native.load(path) if native.is_ours(path) else foreign.load_any(path)


def bundled_generator(source: str | Path) -> str | None:
    """The bundled generator that ``source`` is or refers to, None where it holds its own. Raises as ``load`` does."""
    path = find(source)
    if not native.is_ours(path):
        return None
    found = native.header(path)
    if isinstance(found.config, ModelConfig):
        return found.generator
    return path.stem if path.parent == assets.FOLDER else None
