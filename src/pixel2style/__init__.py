"""pixel2style: encode a picture into StyleGAN's W+ in one forward pass, and draw it again.

    import pixel2style as p2s
    model = p2s.load("faces")            # a bundled name, one of our files, or an official pSp file
    ws = model.encode(images)            # [b k d]
    out = model.decode(ws)               # [b 3 r r]

Everything public is imported when it is first used, so ``import pixel2style`` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _moved

if TYPE_CHECKING:
    from . import errors
    from .checkpoints import load, load_generator, save
    from .editing import latents
    from .errors import (
        CheckpointError,
        ConfigError,
        ImageError,
        NoFaceError,
        NoRoomError,
        OutputError,
        Pixel2StyleError,
        TrainingError,
        UnsafeFileError,
    )
    from .inference.session import Result, Session
    from .metrics import features
    from .models.psp import PSP

__version__ = "0.5.0"

__all__ = [
    "PSP",
    "CheckpointError",
    "ConfigError",
    "ImageError",
    "NoFaceError",
    "NoRoomError",
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
    "PSP": "models.psp",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "ImageError": "errors",
    "NoFaceError": "errors",
    "NoRoomError": "errors",
    "OutputError": "errors",
    "Pixel2StyleError": "errors",
    "Result": "inference.session",
    "Session": "inference.session",
    "TrainingError": "errors",
    "UnsafeFileError": "errors",
    "load": "checkpoints",
    "load_generator": "checkpoints",
    "save": "checkpoints",
}
_moved.install()
_MODULES = {"errors": "errors", "features": "metrics.features", "latents": "editing.latents"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{_MODULES[name]}", __name__)
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
