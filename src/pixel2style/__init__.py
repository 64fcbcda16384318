"""pixel2style: encode a picture into StyleGAN's W+ in one forward pass, and draw it again.

    import pixel2style as p2s
    model = p2s.load("faces")            # a bundled name, one of our files, or an official pSp file
    ws = model.encode(images)            # [b k d]
    out = model.decode(ws)               # [b 3 r r]

Everything public is imported when it is first used, so ``import pixel2style`` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors, features, latents
    from .checkpoints import load, load_generator, save
    from .errors import (
        CheckpointError,
        ConfigError,
        ImageError,
        NoFaceError,
        OutputError,
        Pixel2StyleError,
        TrainingError,
        UnsafeFileError,
    )
    from .model import PSP
    from .session import Result, Session

__version__ = "0.4.0"

__all__ = [
    "PSP",
    "CheckpointError",
    "ConfigError",
    "ImageError",
    "NoFaceError",
    "OutputError",
    "Pixel2StyleError",
    "Result",
    "Session",
    "TrainingError",
    "UnsafeFileError",
    "__version__",
    "errors",
    "features",
    "latents",
    "load",
    "load_generator",
    "save",
]

_HOME = {
    "PSP": "model",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "ImageError": "errors",
    "NoFaceError": "errors",
    "OutputError": "errors",
    "Pixel2StyleError": "errors",
    "Result": "session",
    "Session": "session",
    "TrainingError": "errors",
    "UnsafeFileError": "errors",
    "load": "checkpoints",
    "load_generator": "checkpoints",
    "save": "checkpoints",
}
_MODULES = ("errors", "features", "latents")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
