"""Pickles read, never run.

A pickle is a program: Python's reader imports what it names and calls it. The one here (``opcodes``) takes notes of it
instead, over a mapped file, so that a file of a gigabyte is listed without being read. Source text inside a file is
text. This module does not know what networks look like (see ``pickles``).
"""

import mmap
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, UnsafeFileError
from ..state_dicts import spell
from .machine import BROKEN, OPCODES, Budget, Machine
from .symbols import Name, Record, UnsafeNameError
from .tensors import Storage, Stored

__all__ = ["Name", "Record", "Storage", "Stored", "is_pickle", "read"]

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of ``torch.save`` before PyTorch 1.6 begins (``opcodes.MAGIC``)."""


def is_pickle(path: str | Path) -> bool:
    """Whether a file is a plain pickle: not one of ``torch.save``, which is a zip or begins with its own number."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(len(_LEGACY))
    except OSError:
        return False  # whoever reads it next says why
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5 and head[2] in OPCODES and head != _LEGACY


def read(path: str | Path) -> Any:
    """What a pickle holds: plain Python values, ``Stored`` tensors and arrays, ``Name`` and ``Record`` for the rest.

    The numbers of tensors stay in the file, which must not change meanwhile. Structures may contain themselves. Raises
    UnsafeFileError when the file names anything beyond tensors, arrays and NVIDIA's classes, CheckpointError when it
    is missing, damaged or unreasonably large.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a model file")
    try:
        with path.open("rb") as file:
            # Written to, it would not change the file: PyTorch asks for buffers that may be written.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        return Machine(view, Budget(len(view))).run()
    except UnsafeNameError as error:
        raise UnsafeFileError(
            f"{path}: asks for {spell(str(error))}, which could run code; nothing was run; "
            "use a file that holds weights only"
        ) from error
    except (*BROKEN, OSError) as error:
        raise CheckpointError(
            f"{path}: is no pickle of networks, or is damaged; download it again and compare its size"
        ) from error
