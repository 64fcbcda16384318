"""What can go wrong by the user's hand. Anything else is our fault and leaves as a traceback.

Pixel2StyleError            one sentence that says what to do; the command line prints it and exits 2
├── ConfigError             a setting or combination of settings that cannot work
├── ImageError              a picture that cannot be read, or is too large, or is not a picture
├── NoFaceError             no face was found where one is needed
├── CheckpointError         a model file that is not what it should be
│   └── UnsafeFileError     a model file that wants to run code; nothing of it was executed
├── OutputError             results cannot be written, or would overwrite others
└── TrainingError           a run that cannot go on as it was set up
"""

import sys


class Pixel2StyleError(Exception):
    """Base of every error that is the user's to mend."""


class ConfigError(Pixel2StyleError):
    """A setting or a combination of settings that cannot work."""


class ImageError(Pixel2StyleError):
    """A picture that cannot be read, is too large, or is not a picture."""


class NoFaceError(Pixel2StyleError):
    """No face was found where one is needed."""


class CheckpointError(Pixel2StyleError):
    """A model file whose content is not what it should be."""


class UnsafeFileError(CheckpointError):
    """A model file that wants to run code. Nothing of it was executed."""


class OutputError(Pixel2StyleError):
    """Results cannot be written, or would silently replace others."""


class TrainingError(Pixel2StyleError):
    """A training run that cannot go on as it was set up."""


def complain(sentence: str) -> None:
    """Say one sentence, on one line, whatever bytes the names of files in it are made of."""
    line = " ".join(sentence.split()).encode(errors="backslashreplace").decode()
    print(f"pixel2style: {line}", file=sys.stderr)
