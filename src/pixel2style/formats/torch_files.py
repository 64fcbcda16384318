"""PyTorch files: read without executing their pickle, written whole or not at all."""

import pickle as python_pickle
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files import replacing, system_error
from .pickle import containers, unsafe
from .pickle.builders import UnsafeNameError

_BROKEN = (
    python_pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, LookupError,
    TypeError, AttributeError, AssertionError, ArithmeticError, ImportError, EOFError, MemoryError, OSError,
)  # fmt: skip
"""What reading damaged bytes may raise."""

_OTHER_FILES = {
    b"<": "a web page",
    b"version https://git-lfs": "a pointer of git-lfs",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x1f\x8b": "a compressed archive",
    b"Rar!": "a compressed archive",
    b"7z\xbc\xaf": "a compressed archive",
}
"""How files begin that are often downloaded in place of a model, and what they are."""


def read(path: str | Path, numbers: bool = True) -> dict[str, Any]:
    """The dictionary in a PyTorch file, as ``read_any``. Raises CheckpointError also where it holds something else."""
    content = read_any(path, numbers)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {type(content).__name__}, not a dictionary of weights")
    return content


def read_any(path: str | Path, numbers: bool = True) -> Any:
    """What a PyTorch file holds, on the CPU; its tensors are mapped from the file where the format allows.

    Without ``numbers`` its tensors are meta tensors. Only tensors, plain containers and ``argparse.Namespace`` are
    built. Raises UnsafeFileError when the file asks for a name that no file of PyTorch needs, CheckpointError when it
    is missing, damaged or no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a model file")
    try:
        if not containers.is_container(path):
            _refuse(path)
        content = containers.read(path, numbers)
    except UnsafeNameError as error:
        raise unsafe(path, error) from error
    except _BROKEN as error:
        other = _other_file(path)
        raise CheckpointError(
            f"{path}: is {other}, not a file of weights; download the model itself"
            if other
            else f"{path}: is no PyTorch file of weights, or is damaged; download it again and compare its size"
        ) from error
    return content


def _other_file(path: Path) -> str:
    """What a file is that begins as no file of weights does; empty where it may be one."""
    with path.open("rb") as file:
        start = file.read(100)
    if not start:
        return "empty"
    return next((what for sign, what in _OTHER_FILES.items() if start.lstrip().startswith(sign)), "")


def _refuse(path: Path) -> NoReturn:
    """Raise UnsafeNameError for a pickle that imports something, else ValueError."""
    with path.open("rb") as file:
        content = file.read(1 << 24)
    names = _imports(content) if content[:1] in (python_pickle.PROTO, python_pickle.MARK) else iter(())
    raise next(map(UnsafeNameError, names), ValueError("no file of PyTorch"))


def _imports(content: bytes) -> Iterator[str]:
    """Names that a pickle imports, except PyTorch's own, found by listing its opcodes."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            name = ""
            if opcode.name == "GLOBAL":
                name = str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                name = ".".join(strings[-2:])
            elif isinstance(argument, str):
                strings.append(argument)
            if re.fullmatch(r"[\w.]+", name) and not name.startswith(("torch.", "collections.")):
                yield name
    except _BROKEN:
        return


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a dictionary of tensors and plain values as a PyTorch file, whole or not at all.

    The file is read again and must hold the same bits before it replaces another. Raises OutputError when it cannot be
    written.
    """
    owned = _owned(content)
    with replacing(Path(path)) as part:
        try:
            torch.save(owned, part)
        except RuntimeError as error:  # PyTorch's own writer, on a full disk
            raise system_error(part, error) from error
        if not _same(owned, read(part)):
            raise OSError("reading it again gives something else than was written")


def _owned(value: Any) -> Any:
    """``value`` with tensors on the CPU whose storages hold their own numbers and no others."""
    if isinstance(value, Mapping):
        return {key: _owned(inner) for key, inner in value.items()}
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal, tensors bit for bit."""
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if not isinstance(a, Tensor):
        return bool(a == b)
    alike = isinstance(b, Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype)
    return alike and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
