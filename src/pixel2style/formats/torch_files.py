"""PyTorch files by path: read without running their pickle, written whole or not at all."""

import pickle
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

from ..errors import CheckpointError, UnsafeFileError
from ..files import replacing
from .pickle import archives
from .pickle.symbols import UnsafeNameError
from .state_dicts import spell

_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, LookupError,
    TypeError, AttributeError, AssertionError, ArithmeticError, ImportError, EOFError, MemoryError, OSError,
)  # fmt: skip
"""What reading damaged bytes may raise, and only that: our own mistakes must not pass for the file's."""


def read(path: str | Path, numbers: bool = True) -> dict[str, Any]:
    """The dictionary in a PyTorch file, on the CPU; its tensors are mapped from the file where the format allows.

    Without ``numbers`` its tensors are PyTorch's meta ones, which have shapes and nothing else. Only tensors, plain
    containers and ``argparse.Namespace`` are built. Raises UnsafeFileError when the file asks for anything that nothing
    of PyTorch's needs, CheckpointError when it is missing, damaged or no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a model file")
    try:
        if not archives.is_archive(path):
            _refuse(path)
        content = archives.read(path, numbers)
    except UnsafeNameError as error:
        raise UnsafeFileError(
            f"{path}: asks for {spell(str(error))}, which could run code; nothing was run; "
            "use a file that holds weights only"
        ) from error
    except _BROKEN as error:
        seen = archives.impostor(path)
        raise CheckpointError(
            f"{path}: is {seen}, not a file of weights; download the model itself"
            if seen
            else f"{path}: is no PyTorch file of weights, or is damaged; download it again and compare its size"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {type(content).__name__}, not a dictionary of weights")
    return content


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a dictionary of tensors and plain values as a PyTorch file, whole or not at all.

    The file is read again, by ``read``, and must hold the same bits before it takes its name. Raises OutputError when
    it cannot be written.
    """
    owned = _owned(content)
    with replacing(Path(path)) as part:
        try:
            torch.save(owned, part)
        except RuntimeError as error:  # PyTorch's own writer, on a full disk
            raise OSError(str(error).splitlines()[0]) from error
        if not _same(owned, read(part)):
            raise OSError("what was read again differs from what was written")


def _owned(value: Any) -> Any:
    """``value`` with tensors on the CPU that store their own numbers and no others."""
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


def _refuse(path: Path) -> NoReturn:
    """Raise UnsafeNameError for what a pickle of another kind asks for, ValueError where it asks for nothing."""
    with path.open("rb") as file:
        content = file.read(1 << 24)
    names = _imports(content) if content[:1] in (pickle.PROTO, pickle.MARK) else iter(())
    raise next(map(UnsafeNameError, names), ValueError("no file of PyTorch's"))


def _imports(content: bytes) -> Iterator[str]:
    """Names that a pickle imports, PyTorch's own left out; found by reading its opcodes, none of which is run."""
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
