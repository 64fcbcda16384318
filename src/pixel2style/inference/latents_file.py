"""``latents.safetensors``: the rows of all photographs in a folder, complete whenever a process ends or is killed.

Rows of each photograph are first written to a part of their own, before its pictures, and all parts are joined into the
file at the end of a run, and at the start of the next one. Any number of processes may write to one folder: a lock
protects the moments in which the file is replaced.

Axes: ``n`` samples, ``k`` rows, ``d`` width of a row.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .. import checkpoints
from ..errors import OutputError
from ..files import locked, writing

LATENTS = "latents.safetensors"
"""The file beside the pictures with every photograph's rows under its name."""
SAMPLES = 3
"""Axes of what is no photograph's rows but samples, [n k d]."""
MADE = "made "
"""How keys of metadata begin that say what made the rows of a photograph."""
PARTS = ".latents"
"""The folder of parts; it exists while a run goes on, or after it was killed."""


class Entries(NamedTuple):
    """What a file of rows holds: the number of axes by key, and by photograph what made its rows, where it is known."""

    axes: dict[str, int]
    made: dict[str, str]

    def has(self, name: str, made: str) -> bool:
        """Whether there are rows of a photograph, not known to be made by something else than ``made``."""
        return self.axes.get(name, SAMPLES) != SAMPLES and self.made.get(name, made) == made


class LatentsFile:
    """The rows in the folder ``out``, which exists; ``made`` says what makes those of this run, such as "edit".

    Raises OutputError where its file holds something else.
    """

    def __init__(self, out: Path, made: str = ""):
        self.file, self._parts, self._made = out / LATENTS, out / PARTS, made
        self._entries = Entries({}, {})
        self._own: dict[str, int] = {}
        """The axes of the entries of this run."""
        self._seen = ""
        self.join()

    def add(self, name: str, rows: Mapping[str, Tensor]) -> None:
        """Store ``rows`` of the photograph ``name`` by their keys.

        Raises OutputError when they cannot be written, or would replace samples of another photograph: those of ``me``
        have the key of the rows of ``me.samples``.
        """
        axes = {key: tensor.ndim for key, tensor in rows.items()}
        for key, own in axes.items():
            if self._own.get(key, self._entries.axes.get(key, own)) != own:
                raise OutputError(
                    f"the rows of {name} and of another photograph would both be called {key} in {self.file}: "
                    "rename one of the two, or choose another --out"
                )
        with self._locked():
            checkpoints.save_tensors(rows, self._part(name), {MADE + name: self._made} if self._made else None)
        self._own |= axes

    def has(self, name: str) -> bool:
        """Whether there are rows of a photograph that a run of this kind has made, also of another process."""
        with contextlib.suppress(OutputError):  # another process may be moving the part into the file
            if _entries(self._part(name)).has(name, self._made):
                return True
        if (seen := _version(self.file)) != self._seen:  # another process has joined its parts
            self._entries, self._seen = _entries(self.file), seen
        return self._entries.has(name, self._made)

    def join(self) -> None:
        """Move the rows of all parts into the file. Raises OutputError."""
        if self._parts.is_dir():
            with self._locked():
                parts = sorted(self._parts.glob("*.safetensors"))
                if parts:
                    rows, made = rows_in(self.file), _entries(self.file).made
                    for part in parts:
                        rows |= rows_in(part)
                        made |= _entries(part).made
                    checkpoints.save_tensors(rows, self.file, {MADE + name: own for name, own in made.items()})
                    for part in parts:
                        part.unlink()
                with contextlib.suppress(OSError):
                    self._parts.rmdir()
        self._entries, self._seen = _entries(self.file), _version(self.file)

    def _part(self, name: str) -> Path:
        return self._parts / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.safetensors"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The only process of this machine that changes the file or its parts; the folder of parts exists."""
        with locked(self.file):
            with writing(self.file):
                self._parts.mkdir(exist_ok=True)
            yield


def rows_in(file: Path) -> dict[str, Tensor]:
    """The rows in a ``latents.safetensors``, by photograph; none if there is no such file.

    Raises OutputError for a file of something else, so that it is not replaced by accident.
    """
    try:
        return load_file(file) if file.exists() else {}
    except (OSError, SafetensorError) as error:
        raise _foreign(file) from error


def _entries(file: Path) -> Entries:
    """What a file holds; nothing where there is none."""
    if not file.exists():
        return Entries({}, {})
    try:
        with safe_open(file, framework="pt") as rows:
            axes = {key: len(rows.get_slice(key).get_shape()) for key in rows.keys()}  # noqa: SIM118 (not a dict)
            said = rows.metadata() or {}
            return Entries(axes, {key.removeprefix(MADE): own for key, own in said.items() if key.startswith(MADE)})
    except (OSError, SafetensorError) as error:
        raise _foreign(file) from error


def _foreign(file: Path) -> OutputError:
    return OutputError(f"{file} holds no rows: move it away, or choose another --out")


def _version(file: Path) -> str:
    """Changes whenever the file is replaced."""
    with contextlib.suppress(OSError):
        status = file.stat()
        return f"{status.st_ino} {status.st_mtime_ns} {status.st_size}"
    return ""
