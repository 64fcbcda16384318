"""Load a model or a generator from any source: bundled names, our files, files of other projects."""

from pathlib import Path

from .. import assets
from ..config import ModelConfig
from ..errors import ConfigError
from ..generators import Generator
from ..models.psp import PSP
from . import foreign, native
from .resolve import find


def load(source: str | Path, *, generator: str | Path | None = None, trainable: bool = False) -> PSP:
    """The model in ``source``, on the CPU and in eval mode.

    ``source`` is a bundled name, a file of ours or an official checkpoint of pSp, e4e or ReStyle, by path, by address
    or on the Hugging Face Hub. ``generator`` is any source of ``load_generator``, for a file that holds an encoder
    without its generator, and for no other. Weights ask for no gradients, which still pass through to images and rows;
    with ``trainable`` those of the encoders do. Raises CheckpointError when the file is no such thing, is damaged or
    does not fit the generator, UnsafeFileError when it contains code, ConfigError for a generator that is not needed.
    """
    path = find(source)
    if native.is_ours(path):
        _refuse_generator(generator, path)
        model = native.load_model(path)
    else:
        model = foreign.load_model(path, _completing(path, generator))
    return model.requires_grad_(False) if not trainable else model


def load_generator(source: str | Path) -> Generator:
    """The generator in ``source``: of a generator's file (ours, rosinality's, NVIDIA's) or of a model. As ``load``."""
    path = find(source)
    return native.load_generator(path) if native.is_ours(path) else foreign.load_generator(path)


def load_any(source: str | Path, *, generator: str | Path | None = None) -> PSP | Generator:
    """The model in ``source``, or the generator where it holds no more. As ``load``."""
    path = find(source)
    if native.is_ours(path):
        _refuse_generator(generator, path)
        return native.load(path)
    return foreign.load_any(path, _completing(path, generator))


def lacks_generator(source: str | Path) -> bool:
    """Whether ``source`` holds an encoder of another project without its generator. Raises as ``load`` does."""
    path = find(source)
    return not native.is_ours(path) and foreign.lacks_generator(path)


def _completing(path: Path, generator: str | Path | None) -> Generator | None:
    """The generator for a file that holds none. Raises ConfigError where it needs none."""
    if generator is None:
        return None
    if not foreign.lacks_generator(path):
        _refuse_generator(generator, path)
    return load_generator(generator)


def _refuse_generator(generator: str | Path | None, path: Path) -> None:
    if generator is not None:
        raise ConfigError(f"{path} is no encoder without its generator: leave out {generator}")


def bundled_generator(source: str | Path) -> str | None:
    """The bundled generator that ``source`` is or refers to, None where it holds its own. Raises as ``load`` does."""
    path = find(source)
    if not native.is_ours(path):
        return None
    found = native.header(path)
    if isinstance(found.config, ModelConfig):
        return found.generator
    return path.stem if path.parent == assets.FOLDER else None
