"""Names in pickles and what stands for them: nothing is imported, no object of another package is made.

A name stays a ``Name``. A few functions of PyTorch, NumPy and Python that only build data are replaced by functions of
ours; a call of any other name that a file may contain becomes a ``Record`` of function, arguments and state. All other
names raise ``UnsafeNameError``. Which names those are is the ``Dialect`` of a file: ``PYTORCH`` for files of
``torch.save``, ``NVIDIA`` for pickles of StyleGAN's code, ``STORAGE`` for storages inside those.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from torch import Tensor

from . import tensors
from .tensors import ArrayType, Stored

MAX_KEY = 1 << 60
"""Integers below this hash to themselves, so as keys they cannot be made to collide."""
MAX_NAME = 200
"""Letters in the name of a module, and in a name inside it."""

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class UnsafeNameError(Exception):
    """A name that could run code."""


class Name(NamedTuple):
    """A function or class that a pickle refers to. It was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Record:
    """A call or an object that a pickle describes: its function or class, arguments and state. It was not made."""

    def __init__(self, name: Name, args: tuple[Any, ...]):
        self.name = name
        self.args = args
        self.state: Any = None


class Dialect(NamedTuple):
    """The names that one kind of file may contain: those that are built, and those that are only recorded."""

    builders: Mapping[str, Callable[..., Any]]
    recorded: re.Pattern[str]
    steps: int
    """Opcodes in one file at most."""

    def name(self, module: Any, name: Any) -> Name:
        """The name, if a file of this kind may contain it. Raises UnsafeNameError."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is not text")
        if len(module) > MAX_NAME or len(name) > MAX_NAME:
            raise UnsafeNameError(f"{module[:MAX_NAME]}.{name[:MAX_NAME]}")
        found = Name(module, name)
        known = str(found) in self.builders or self.recorded.fullmatch(str(found))
        if not known or not _IDENTIFIER.fullmatch(name):
            raise UnsafeNameError(str(found))
        return found

    def call(self, function: Name, args: tuple[Any, ...]) -> Any:
        """What stands for ``function(*args)``."""
        build = self.builders.get(str(function))
        return Record(function, args) if build is None else build(*args)

    def with_builder(self, name: str, build: Callable[..., Any]) -> "Dialect":
        """This dialect and one more builder."""
        return self._replace(builders={**self.builders, name: build})


def set_state(target: Any, state: Any) -> None:
    """Give an object its state; a state of a dictionary or of a tensor (attributes) is dropped."""
    if isinstance(target, Record) and target.state is None:
        target.state = state
    elif isinstance(target, Stored):
        tensors.fill_array(target, state)
    elif isinstance(target, ArrayType):
        tensors.set_byte_order(target, state)
    elif isinstance(target, argparse.Namespace) and isinstance(state, dict):
        vars(target).update((key, value) for key, value in state.items() if isinstance(key, str))
    elif not (isinstance(target, Tensor) or (isinstance(target, dict) and isinstance(state, dict))):
        raise ValueError("a state for something that has none")


def set_items(target: Any, pairs: list[Any]) -> None:
    """Enter keys and values, which alternate in ``pairs``, into a dictionary."""
    if not isinstance(target, dict) or len(pairs) % 2:
        raise ValueError("entries of something that is no dictionary")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        target[_key(key)] = value


def add_items(target: Any, values: list[Any]) -> None:
    """Append to a list, or add to a set."""
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, set):
        target.update(keys(values))
    else:
        raise ValueError("items of something that has none")


def dict_of(pairs: list[Any]) -> dict[Any, Any]:
    """A dictionary of keys and values, which alternate in ``pairs``."""
    made: dict[Any, Any] = {}
    set_items(made, pairs)
    return made


def keys(values: Any = ()) -> tuple[Any, ...]:
    """Values that may be keys or items of sets: others could collide, or be slow to compare. Raises ValueError."""
    if not isinstance(values, list | tuple | set | frozenset):
        raise ValueError("items that are no list")
    return tuple(_key(value) for value in values)


def _key(value: Any) -> Any:
    if value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < MAX_KEY):
        return value
    raise ValueError("a key that no network has")


def _dict(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    """``dict``, ``OrderedDict`` (of pairs in Python 2), ``Counter``, or ``defaultdict``, whose default is dropped."""
    if isinstance(pairs, Name):
        return {}
    return dict_of([one for pair in (pairs.items() if isinstance(pairs, dict) else pairs) for one in _pair(pair)])


def _pair(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("an entry that is no pair")
    return value


def _bytes(value: Any = "", encoding: Any = "latin1") -> memoryview:
    """Bytes, which old protocols write as text."""
    if isinstance(value, memoryview):
        return value
    if not isinstance(value, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another encoding")
    return memoryview(bytearray(value, "latin-1"))


def _path(kind: type[PurePosixPath] | type[PureWindowsPath], *parts: Any) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path of something else than text")
    return str(kind(*parts))


def _parameter(value: Any, *_: Any) -> Stored | Tensor:
    """``torch._utils._rebuild_parameter``."""
    if not isinstance(value, Stored | Tensor):
        raise ValueError("a parameter that is no tensor")
    return value


def _with_attributes(build: Any, _: Any, args: Any, *__: Any) -> Any:
    """``torch._tensor._rebuild_from_type_v2``: a tensor with attributes, or a subclass of Tensor."""
    if not isinstance(build, Name) or not isinstance(args, tuple):
        raise ValueError("a tensor that is made by no function")
    rebuild = TENSORS.get(str(build), PARAMETERS.get(str(build)))
    return Record(build, args) if rebuild is None else rebuild(*args)


def _without_storage(*_: Any) -> Tensor:
    raise ValueError("a meta tensor, whose numbers were never stored")


def _reconstructed(what: Any, *_: Any) -> Record:
    """``copyreg._reconstructor``, of a class of NVIDIA's."""
    if not isinstance(what, Name) or not NVIDIA_MODULES.fullmatch(what.module):
        raise ValueError("an object without a class")
    return Record(what, ())


NUMPY: dict[str, Callable[..., Any]] = {"numpy.dtype": tensors.array_type}
for _module in ("numpy.core", "numpy._core"):
    NUMPY[f"{_module}.multiarray._reconstruct"] = tensors.blank_array
    NUMPY[f"{_module}.multiarray.scalar"] = tensors.scalar
    NUMPY[f"{_module}.numeric._frombuffer"] = tensors.array_from_buffer

PARAMETERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
BOTH: dict[str, Callable[..., Any]] = {
    **NUMPY,
    **PARAMETERS,
    "torch.Size": keys,
    "torch.device": lambda *args: args,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _dict,
    "builtins.set": lambda values=(): set(keys(values)),
    "__builtin__.set": lambda values=(): set(keys(values)),
}

TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensors.view,
    "torch._utils._rebuild_tensor_v2": tensors.view,
}
PYTORCH = Dialect(
    builders={
        **BOTH,
        **TENSORS,
        "torch._utils._rebuild_meta_tensor_no_storage": _without_storage,
        "torch._tensor._rebuild_from_type_v2": _with_attributes,
        "collections.Counter": _dict,
        "argparse.Namespace": argparse.Namespace,
        **{
            f"{module}.{name}": partial(_path, kind)
            for module in ("pathlib", "pathlib._local")
            for kind in (PurePosixPath, PureWindowsPath)
            for name in (kind.__name__, kind.__name__.removeprefix("Pure"))
        },
    },
    recorded=re.compile(
        r"torch\.(storage\.|cuda\.|sparse\.|cuda\.sparse\.)?[A-Z]\w*(Storage|Tensor)|torch\.Tensor"
        r"|torch\.((b?float|complex|u?int|q?u?int|bits)\d\w*|float|double|half|u?int|long|short|bool)"
        r"|torch\.per_(tensor|channel)_\w+"
        r"|torch\.(nn\.parameter\.(Parameter|Buffer)|serialization\._get_layout)"
        r"|torch\._utils\._rebuild_(tensor_v3|(sparse|q|nested)_?tensor|wrapper_subclass|device_tensor_from_\w+)"
        r"|numpy\.ndarray|(builtins|__builtin__)\.(complex|bytearray)",
        re.ASCII,
    ),
    steps=1_000_000,  # those of forty thousand tensors
)
"""Files of ``torch.save``: what its restricted reader (``weights_only``) allows, and options of training programs."""

NVIDIA_MODULES = re.compile(
    r"(dnnlib|torch_utils|training|metrics|legacy|tfutil|torch\.nn\.modules)(\.[A-Za-z_]\w*)*", re.ASCII
)
_DATA = (
    r"torch\.(cuda\.)?\w+Storage|torch\.(float|double|half|bfloat|u?int|bool|short|long)\d*|numpy\.ndarray"
    r"|(builtins|__builtin__)\.(object|slice|range|complex|list|tuple|dict|int|long|float|bool|str)"
)
"""Classes that only hold or describe data."""

NVIDIA = Dialect(
    builders={
        **BOTH,
        "torch._utils._rebuild_tensor": tensors.stored,
        "torch._utils._rebuild_tensor_v2": tensors.stored,
        "collections.defaultdict": _dict,
        "dnnlib.util.EasyDict": _dict,
        "copyreg._reconstructor": _reconstructed,
        "copy_reg._reconstructor": _reconstructed,
        **{f"{module}.{name}": _bytes for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
        "builtins.frozenset": lambda values=(): frozenset(keys(values)),
        "__builtin__.frozenset": lambda values=(): frozenset(keys(values)),
    },
    recorded=re.compile(rf"{_DATA}|{NVIDIA_MODULES.pattern}\.\w+", re.ASCII),
    steps=400_000,  # several times the 63,000 of a StyleGAN2 of 1024 pixels with its discriminator and its average
)
"""Pickles of StyleGAN's code: its classes are recorded, its tensors are read later (``Stored``)."""

STORAGE = Dialect(builders={}, recorded=re.compile(_DATA, re.ASCII), steps=0)
"""The pickles that describe a storage inside a pickle of NVIDIA's."""
