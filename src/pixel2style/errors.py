"""Errors that the user can fix. All other exceptions are bugs and end in a traceback.

Pixel2StyleError            one sentence that says what to do; the command line prints it and exits with 2
├── ConfigError             a setting or combination of settings that cannot work
├── ImageError              a file that cannot be read as an image, or is too large
├── NoFaceError             no face was found where one is needed
├── CheckpointError         a model file with the wrong content
│   └── UnsafeFileError     a model file that contains code; nothing of it was executed
├── OutputError             results cannot be written, or would overwrite other files
│   └── NoRoomError         the disk is full or may not be written to: nothing else can be written, either
└── TrainingError           a training run that cannot continue with its settings
"""

import sys


class Pixel2StyleError(Exception):
    """Base class of all errors that the user can fix."""


class ConfigError(Pixel2StyleError):
    """A setting or a combination of settings that cannot work."""


class ImageError(Pixel2StyleError):
    """A file that cannot be read as an image, or is too large."""


class NoFaceError(Pixel2StyleError):
    """No face was found where one is needed."""


class CheckpointError(Pixel2StyleError):
    """A model file with the wrong content."""


class UnsafeFileError(CheckpointError):
    """A model file that contains code. Nothing of it was executed."""


class OutputError(Pixel2StyleError):
    """Results cannot be written, or would overwrite other files."""


class NoRoomError(OutputError):
    """The disk is full or may not be written to, so nothing else can be written, either."""


class TrainingError(Pixel2StyleError):
    """A training run that cannot continue with its settings."""


def complain(sentence: str) -> None:
    """Print a sentence on one line of stderr; bytes of file names that are not text are escaped."""
    line = " ".join(sentence.split()).encode(errors="backslashreplace").decode()
    print(f"pixel2style: {line}", file=sys.stderr)
