"""What the pickle of a PyTorch file says, and what stands for it here: nothing is imported, nothing of PyTorch called.

A tensor is made where the pickle describes one that lies within its storage, on the numbers that the reader of the file
has found. Storages may claim no more bytes than the file has, so that no memory is taken on a pickle's word. PyTorch's
other builders (of sparse and quantised tensors, ``torch.FloatTensor(n)``) become inert Records. This module does not
know where in a file anything lies (see ``archives``).
"""

import argparse
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import machine as opcodes
from . import symbols, tensors
from .machine import OPCODES, Budget
from .symbols import Name, Record, UnsafeNameError

STEPS = 1_000_000
"""Opcodes in one file: those of forty thousand tensors."""
LARGEST = 1 << 48

KINDS = {
    **tensors.TORCH_KINDS, "UntypedStorage": torch.uint8, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128, "QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}  # fmt: skip
"""What storages hold, by their class."""

_INERT = re.compile(
    r"torch\.(storage\.|cuda\.|sparse\.|cuda\.sparse\.)?[A-Z]\w*(Storage|Tensor)|torch\.Tensor"
    r"|torch\.((b?float|complex|u?int|q?u?int|bits)\d\w*|float|double|half|u?int|long|short|bool|per_(tensor|channel)_\w+)"
    r"|torch\.(nn\.parameter\.(Parameter|Buffer)|serialization\._get_layout)"
    r"|torch\._utils\._rebuild_(tensor_v3|(sparse|q|nested)_?tensor|wrapper_subclass|device_tensor_from_\w+)"
    r"|numpy\.ndarray|(builtins|__builtin__)\.(complex|bytearray)",
    re.ASCII,
)
"""Names that PyTorch's restricted reader would look up, and that need not be anything here."""


class Claim(NamedTuple):
    """A storage that a pickle speaks of: its numbers, in a row."""

    kind: torch.dtype
    length: int
    flat: Tensor


class Machine(opcodes.Machine):
    """Reads the pickles of one PyTorch file; ``find`` gives the storage of a key, a kind and a count."""

    def __init__(self, data: memoryview, size: int, find: Callable[[str, torch.dtype, int], Tensor]):
        budget = Budget(size)
        budget.steps = STEPS
        super().__init__(data, budget)
        self.opcodes = _OPCODES
        self.find = find
        self.left = size
        self.claims: dict[str, Claim] = {}

    def name(self, module: Any, name: Any) -> Name:
        """What would be imported, if PyTorch itself, or options beside tensors, have any use for it."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is no text")
        wanted = Name(module, name)
        if str(wanted) not in BUILDERS and not _INERT.fullmatch(str(wanted)):
            raise UnsafeNameError(str(wanted))
        return wanted

    def call(self, what: Any, args: Any) -> Any:
        """What stands for ``what(*args)``."""
        if not isinstance(what, Name) or not isinstance(args, tuple):
            raise ValueError("a call of something that is no function")
        for value in args:
            self.pay(value)
        build = BUILDERS.get(str(what))
        return Record(what, args) if build is None else build(*args)

    def reference(self) -> None:
        """Put the storage on the stack that a persistent id speaks of."""
        word, kind, key, _, count, *views = self.stack.pop()
        if word != "storage" or not isinstance(kind, Name) or any(view is not None for view in views):
            raise ValueError("a reference to something outside")
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < LARGEST:
            raise ValueError("a storage of senseless size")
        dtype = KINDS[kind.name]
        if key not in self.claims:
            self.left -= count * dtype.itemsize
            if self.left < 0:
                raise ValueError("storages beyond the file")
            self.claims[key] = Claim(dtype, count, self.find(key, dtype, count))
        claim = self.claims[key]
        if (claim.kind, claim.length) != (dtype, count):
            raise ValueError("a storage of two sizes")
        self.stack.append(claim)

    def give_state(self) -> None:
        """Tell the object on top but one what it holds."""
        (state,) = self.last(1)
        what = self.stack[-1]
        self.pay(state)
        if isinstance(what, argparse.Namespace) and isinstance(state, dict):
            vars(what).update((key, value) for key, value in state.items() if isinstance(key, str))
        elif not isinstance(what, Tensor):  # what hangs on a tensor is dropped
            symbols.give_state(what, state)


_OPCODES: dict[int, Callable[[Any], None]] = {
    **OPCODES,
    ord("Q"): Machine.reference,
    ord("b"): Machine.give_state,
    ord("U"): lambda machine: machine.stack.append(str(machine.take(machine.number("B")), "utf-8")),
}


def _tensor(claim: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    """What ``torch._utils._rebuild_tensor_v2`` would make; gradients and hooks are not looked at."""
    if not (isinstance(claim, Claim) and isinstance(shape, tuple) and isinstance(stride, tuple)):
        raise ValueError("a tensor without storage, shape or stride")
    if len(shape) != len(stride) or not all(type(n) is int and 0 <= n < LARGEST for n in (offset, *shape, *stride)):
        raise ValueError("a tensor of senseless shape")
    span = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if math.prod(shape) else 0
    if offset + span > claim.length:
        raise ValueError("a tensor beyond its storage")
    return claim.flat.as_strided(shape, stride, offset)


def _parameter(value: Any, *_: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError("a parameter that is no tensor")
    return value


def _with_attributes(build: Any, _: Any, args: Any, *__: Any) -> Any:
    """What ``torch._tensor._rebuild_from_type_v2`` would make: a tensor, or a class of one, on which things hang."""
    if not isinstance(build, Name) or not isinstance(args, tuple):
        raise ValueError("a tensor that is made by no function")
    return TENSORS[str(build)](*args) if str(build) in TENSORS else Record(build, args)


def _absent(*_: Any) -> Tensor:
    raise ValueError("a tensor without numbers, which was never stored")


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    """A dictionary, of pairs as Python 2 pickles it or of another."""
    flat = [one for pair in (pairs.items() if isinstance(pairs, dict) else pairs) for one in _pair(pair)]
    made: dict[Any, Any] = {}
    symbols.put(made, flat)
    return made


def _pair(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("an entry that is no pair")
    return value


def _path(kind: type[PurePosixPath] | type[PureWindowsPath], *parts: Any) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path of other things than texts")
    return str(kind(*parts))


TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
BUILDERS: dict[str, Callable[..., Any]] = {
    **{name: build for name, build in symbols.BUILDERS.items() if name.startswith(("numpy.", "_codecs."))},
    **{f"{module}.set": symbols.BUILDERS[f"{module}.set"] for module in ("builtins", "__builtin__")},
    **TENSORS,
    "torch._utils._rebuild_meta_tensor_no_storage": _absent,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch.Size": symbols.keys,
    "torch.device": lambda *args: args,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "argparse.Namespace": argparse.Namespace,
}
"""Names that are answered, and by what."""
for _module in ("pathlib", "pathlib._local"):
    for _flavour in (PurePosixPath, PureWindowsPath):
        BUILDERS[f"{_module}.{_flavour.__name__}"] = partial(_path, _flavour)
        BUILDERS[f"{_module}.{_flavour.__name__.removeprefix('Pure')}"] = partial(_path, _flavour)
