"""Tensors and arrays as a pickle describes them: kind, shape and place are known and checked, numbers not yet read.

The description is what PyTorch and NumPy write into a plain pickle; the numbers stay where they lie, in a view of the
mapped file, until ``Stored.tensor`` copies them out. Nobody allocates what a description merely claims: its farthest
number must lie inside the bytes that are there. Arrays of kinds that no weights are (text, objects ...) stand beside
weights in honest files: they are kept as a place that holds nothing. This module does not know how a pickle is read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

MAX_AXES = 8

REPEATED = 1 << 20
"""A tensor that repeats its numbers (an average for every row) may have so many; a large one is a trap for memory."""
SHARED = 64 << 20
"""Bytes that the tensors of a file may take beyond twice its own: some lie on the same numbers."""

TORCH_KINDS = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
"""What PyTorch's storages hold, by their class."""

NUMPY_KINDS = {
    "f4": torch.float32, "f8": torch.float64, "f2": torch.float16, "i8": torch.int64, "i4": torch.int32,
    "i2": torch.int16, "i1": torch.int8, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
"""What NumPy's arrays hold, by the code of their dtype, if they may be weights."""


@dataclass
class NumpyKind:
    """What a ``numpy.dtype`` says; ``numbers`` is None where no weights are of it."""

    numbers: torch.dtype | None


class Storage(NamedTuple):
    """Numbers of one kind in a row."""

    kind: torch.dtype
    data: memoryview

    @property
    def length(self) -> int:
        """How many numbers there are."""
        return len(self.data) // self.kind.itemsize


def storage(*_: Any) -> Storage:
    """``torch.storage._load_from_bytes``, which holds pickles of its own: only ``unpickling`` can answer it."""
    raise ValueError("a storage that cannot be read here")


class Stored:
    """A tensor that lies in ``storage``. Raises ValueError when it claims what is not there.

    One that is not ``readable`` is no tensor: an array of which nothing is known, or of a kind that no weights are.
    """

    readable = True

    def __init__(self, storage: Storage, offset: int, shape: Sequence[int], stride: Sequence[int]):
        if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)):
            raise ValueError("a tensor without storage, shape or stride")
        if len(shape) != len(stride) or len(shape) > MAX_AXES:
            raise ValueError("a tensor of senseless shape")
        if not all(type(n) is int and 0 <= n < 1 << 48 for n in (offset, *shape, *stride)):
            raise ValueError("a tensor of senseless shape")
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.stride = stride
        self.count = math.prod(shape)
        self.span = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if self.count else 0
        if offset + self.span > storage.length:
            raise ValueError("a tensor beyond its storage")
        if self.count > max(self.span, REPEATED):
            raise ValueError("a tensor that repeats its numbers")

    @property
    def kind(self) -> torch.dtype:
        """What its numbers are."""
        return self.storage.kind

    @property
    def cost(self) -> int:
        """Bytes of memory that ``tensor`` takes at most."""
        return (self.span + self.count) * self.kind.itemsize

    def tensor(self) -> Tensor:
        """The numbers, copied out of the file, contiguous."""
        if not self.count:
            return torch.empty(self.shape, dtype=self.kind)
        size = self.kind.itemsize
        raw = torch.frombuffer(self.storage.data, dtype=torch.uint8, count=self.span * size, offset=self.offset * size)
        return raw.clone().view(self.kind).as_strided(self.shape, self.stride).contiguous()


def is_tensor(value: Any) -> TypeGuard[Stored]:
    """Whether a value is a tensor whose numbers can be read."""
    return isinstance(value, Stored) and value.readable


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Stored:
    """What ``torch._utils._rebuild_tensor_v2`` would make; gradients and hooks are not looked at."""
    return Stored(storage, offset, shape, stride)


def rebuild_parameter(value: Any, *_: Any) -> Stored:
    """What ``torch._utils._rebuild_parameter`` would make."""
    if not isinstance(value, Stored):
        raise ValueError("a parameter that is no tensor")
    return value


def array(data: Any, kind: torch.dtype, shape: Any, fortran: bool = False) -> Stored:
    """A NumPy array whose numbers lie densely in ``data``, the last axis fastest or, with ``fortran``, the first."""
    if not isinstance(data, memoryview) or not isinstance(shape, tuple) or len(shape) > MAX_AXES:
        raise ValueError("an array without numbers or shape")
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise ValueError("an array of senseless shape")
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError("an array of another size than its numbers")
    steps = [math.prod(shape[:n] if fortran else shape[n + 1 :]) for n in range(len(shape))]
    return Stored(Storage(kind, data), 0, shape, tuple(min(step, (1 << 48) - 1) for step in steps))


def no_array(*_: Any) -> Stored:
    """What ``numpy.core.multiarray._reconstruct`` would make: an array that is told later what it is."""
    blank = Stored(Storage(torch.uint8, memoryview(b"")), 0, (0,), (1,))
    blank.readable = False
    return blank


def become(blank: Stored, state: Any) -> None:
    """Tell an array what it is, by the state that NumPy pickles: version, shape, dtype, order, bytes."""
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], NumpyKind):
        raise ValueError("an array of unknown kind")
    _, shape, kind, fortran, data = state
    if kind.numbers is not None:
        blank.__dict__.update(vars(array(data, kind.numbers, shape, fortran is True)), readable=True)


def from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Stored:
    """What ``numpy.core.numeric._frombuffer`` would make (protocol 5)."""
    if not isinstance(kind, NumpyKind):
        raise ValueError("an array of unknown kind")
    return no_array() if kind.numbers is None else array(data, kind.numbers, shape, order == "F")


def numpy_kind(code: Any, *_: Any) -> NumpyKind:
    """What ``numpy.dtype(code)`` would make."""
    return NumpyKind(NUMPY_KINDS.get(code.lstrip("<|=")) if isinstance(code, str) and len(code) <= 3 else None)


def give_order(kind: NumpyKind, state: Any) -> None:
    """Tell a dtype, by the state that NumPy pickles, the order of its bytes: weights have the little end first."""
    if not isinstance(state, tuple) or len(state) < 2:
        raise ValueError("a dtype of another layout")
    if state[1] not in ("<", "|", "="):
        kind.numbers = None


def scalar(kind: Any, data: Any = None) -> Stored:
    """What ``numpy.core.multiarray.scalar`` would make, as a tensor of no axes."""
    if not isinstance(kind, NumpyKind):
        raise ValueError("a number of unknown kind")
    return no_array() if kind.numbers is None else array(data, kind.numbers, ())
