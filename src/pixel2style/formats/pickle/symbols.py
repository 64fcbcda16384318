"""What the names in a pickle stand for here: nothing is imported, no object of theirs is made.

A name stays a ``Name``. A call of NVIDIA's classes and functions becomes a ``Record`` of what was to be called. A short
list of PyTorch's, NumPy's and Python's own builders of data is answered by functions of ours (``stored``). Every other
name is refused (``UnsafeNameError``). This module does not know how a pickle is read (see ``unpickling``).
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from . import tensors
from .tensors import NumpyKind, Stored

WHOLE = 1 << 60
"""Whole numbers below this hash to themselves: as keys they cannot be made to collide without end."""

LETTERS = 200
"""Of a module's name, and of a name in it."""

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_THEIRS = re.compile(
    r"(dnnlib|torch_utils|training|metrics|legacy|tfutil|torch\.nn\.modules)(\.[A-Za-z_]\w*)*", re.ASCII
)
_DATA = re.compile(
    r"torch\.(cuda\.)?\w+Storage|torch\.(float|double|half|bfloat|u?int|bool|short|long)\d*|numpy\.ndarray"
    r"|(builtins|__builtin__)\.(object|slice|range|complex|list|tuple|dict|int|long|float|bool|str)",
    re.ASCII,
)
"""Classes that only hold or describe data."""


class UnsafeNameError(Exception):
    """A name that could run code."""


class Name(NamedTuple):
    """What a pickle wanted to import. It was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Record:
    """An object that a pickle wanted to make: of which class or by which function, from what. It was not made."""

    def __init__(self, name: Name, args: tuple[Any, ...]):
        self.name = name
        self.args = args
        self.state: Any = None


def named(module: Any, name: Any, storages_only: bool = False) -> Name:
    """The name, if it is one of those that are known. Raises UnsafeNameError."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError("a name that is no text")
    if len(module) > LETTERS or len(name) > LETTERS:
        raise UnsafeNameError(f"{module[:LETTERS]}.{name[:LETTERS]}")
    wanted = Name(module, name)
    known = _DATA.fullmatch(str(wanted)) is not None
    if not storages_only:
        known = known or str(wanted) in BUILDERS or _THEIRS.fullmatch(module) is not None
    if not known or not _IDENTIFIER.fullmatch(name):
        raise UnsafeNameError(str(wanted))
    return wanted


def called(what: Any, args: Any) -> Any:
    """What stands for ``what(*args)``."""
    if not isinstance(what, Name) or not isinstance(args, tuple):
        raise ValueError("a call of something that is no function")
    build = BUILDERS.get(str(what))
    return Record(what, args) if build is None else build(*args)


def give_state(what: Any, state: Any) -> None:
    """Tell an object what it holds; what merely hangs on a dictionary is dropped."""
    if isinstance(what, Record) and what.state is None:
        what.state = state
    elif isinstance(what, Stored):
        tensors.become(what, state)
    elif isinstance(what, NumpyKind):
        tensors.give_order(what, state)
    elif not (isinstance(what, dict) and isinstance(state, dict)):
        raise ValueError("a state for something that has none")


def put(target: Any, pairs: list[Any]) -> None:
    """Enter keys and values, one after the other, into a dictionary."""
    if not isinstance(target, dict) or len(pairs) % 2:
        raise ValueError("entries of something that is no dictionary")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        target[_key(key)] = value


def extend(target: Any, values: list[Any]) -> None:
    """Append to a list, or add to a set."""
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, set):
        target.update(keys(values))
    else:
        raise ValueError("items of something that has none")


def keys(values: Any = ()) -> tuple[Any, ...]:
    """Values that may be keys or items of sets: others could be made to collide, or take long to compare."""
    if not isinstance(values, list | tuple | set | frozenset):
        raise ValueError("items that are no list")
    return tuple(_key(value) for value in values)


def _key(value: Any) -> Any:
    if value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < WHOLE):
        return value
    raise ValueError("a key that no network has")


def _dict(*args: Any) -> dict[Any, Any]:
    if args and not isinstance(args[0], Name):
        raise ValueError("a dictionary that is made of something")
    return {}


def _bytes(value: Any = "", encoding: Any = "latin1") -> memoryview:
    """Bytes, as old protocols spell them."""
    if isinstance(value, memoryview):
        return value
    if not isinstance(value, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another spelling")
    return memoryview(bytearray(value, "latin-1"))


def _reconstructed(what: Any, *_: Any) -> Record:
    if not isinstance(what, Name) or not _THEIRS.fullmatch(what.module):
        raise ValueError("an object without class")
    return Record(what, ())


BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensors.rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": tensors.rebuild_tensor,
    "torch._utils._rebuild_parameter": tensors.rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": tensors.rebuild_parameter,
    "torch.storage._load_from_bytes": tensors.storage,
    "torch.Size": keys,
    "torch.device": lambda *args: args,
    "numpy.dtype": tensors.numpy_kind,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _dict,
    "dnnlib.util.EasyDict": _dict,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
}
"""Names that are answered, and by what."""
for _module in ("numpy.core", "numpy._core"):
    BUILDERS[f"{_module}.multiarray._reconstruct"] = tensors.no_array
    BUILDERS[f"{_module}.multiarray.scalar"] = tensors.scalar
    BUILDERS[f"{_module}.numeric._frombuffer"] = tensors.from_buffer
for _module in ("builtins", "__builtin__"):
    BUILDERS[f"{_module}.bytes"] = BUILDERS[f"{_module}.bytearray"] = _bytes
    BUILDERS[f"{_module}.set"] = lambda values=(): set(keys(values))
    BUILDERS[f"{_module}.frozenset"] = lambda values=(): frozenset(keys(values))
