"""Pickles that are read and never executed.

A pickle is a program: Python's reader imports what it names and calls it. Here a machine only records it (``machine``),
with a short table of names that build data (``builders``), tensors checked against the bytes that are there
(``tensors``) and the containers of ``torch.save`` around a pickle (``containers``). A file is mapped, so one of a
gigabyte is listed without being read.
"""

from functools import partial
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, UnsafeFileError
from ..state_dicts import printable
from .builders import NVIDIA, Name, Record, UnsafeNameError
from .containers import LEGACY, mapped, storage_of
from .machine import BROKEN, OPCODES, Budget, Machine
from .tensors import Stored, is_tensor

__all__ = ["Name", "Record", "Stored", "is_pickle", "is_tensor", "read", "unsafe"]


def is_pickle(path: str | Path) -> bool:
    """Whether a file is a plain pickle: none of ``torch.save``, which is a zip or begins with its own number."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(len(LEGACY))
    except OSError:
        return False  # reading it will say why
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5 and head[2] in OPCODES and head != LEGACY


def read(path: str | Path) -> Any:
    """The content of a plain pickle: values of Python, ``Stored`` tensors and arrays, ``Name`` and ``Record`` else.

    The numbers of tensors stay in the file, which must not change while they are used. Structures may contain
    themselves. Raises UnsafeFileError when the file names anything but tensors, arrays and NVIDIA's classes,
    CheckpointError when it is missing, damaged or unreasonably large.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a model file")
    try:
        view = mapped(path)
        budget = Budget(len(view), NVIDIA.steps)
        dialect = NVIDIA.with_builder("torch.storage._load_from_bytes", partial(storage_of, budget))
        return Machine(view, budget, dialect).run()
    except UnsafeNameError as error:
        raise unsafe(path, error) from error
    except (*BROKEN, OSError) as error:
        raise CheckpointError(
            f"{path}: is no pickle of networks, or is damaged; download it again and compare its size"
        ) from error


def unsafe(path: Path, name: UnsafeNameError) -> UnsafeFileError:
    """What to raise for a file that contains a name that could run code."""
    return UnsafeFileError(
        f"{path}: asks for {printable(str(name))}, which could run code; nothing was run; "
        "use a file that holds weights only"
    )
