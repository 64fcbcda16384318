"""Tensors and arrays as a pickle describes them, checked against the bytes that are there.

Nothing is allocated for what a pickle merely claims: the last number of a tensor must lie inside its storage
(``span``). In PyTorch's files a tensor is a view of its storage; in plain pickles it is ``Stored``, whose numbers stay
in the mapped file until they are asked for. Arrays of types that weights do not have (text, objects) may lie beside
weights; they are ``Stored`` but not ``readable``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..state_dicts import MAX_REPEATED

MAX_AXES, MAX_SIZE = 8, 1 << 48

STORAGE_TYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8, "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,
}  # fmt: skip
"""Types of PyTorch's storages, by class."""

ARRAY_TYPES = {
    "f4": torch.float32, "f8": torch.float64, "f2": torch.float16, "i8": torch.int64, "i4": torch.int32,
    "i2": torch.int16, "i1": torch.int8, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
"""Types of NumPy's arrays that may be weights, by NumPy's code."""


@dataclass
class ArrayType:
    """A ``numpy.dtype``; None where no weights have it."""

    dtype: torch.dtype | None


@dataclass(eq=False)
class Storage:
    """``length`` numbers of one type: bytes of a mapped file (``data``), or a tensor of one axis (``flat``)."""

    dtype: torch.dtype
    length: int
    data: memoryview | None = None
    flat: Tensor | None = None


def span(storage: Any, offset: Any, shape: Any, stride: Any) -> int:
    """How many numbers of ``storage`` a tensor covers, from its first to its last.

    Raises ValueError for a tensor that is not described by a storage, integers and tuples of integers, or that reaches
    beyond its storage.
    """
    if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)):
        raise ValueError("a tensor without storage, shape or stride")
    if len(shape) != len(stride) or len(shape) > MAX_AXES:
        raise ValueError("a tensor of impossible shape")
    if not all(type(n) is int and 0 <= n < MAX_SIZE for n in (offset, *shape, *stride)):
        raise ValueError("a tensor of impossible shape")
    covered = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if math.prod(shape) else 0
    if offset + covered > storage.length:
        raise ValueError("a tensor beyond its storage")
    return covered


class Stored:
    """A tensor whose numbers lie in the file. Raises ValueError when it claims more than is there.

    One that is not ``readable`` is no tensor: an array without content yet, or of a type that no weights have.
    """

    readable = True

    def __init__(self, storage: Storage, offset: int, shape: Sequence[int], stride: Sequence[int]):
        self.span = span(storage, offset, shape, stride)
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)
        self.count = math.prod(shape)
        if self.count > max(self.span, MAX_REPEATED):
            raise ValueError("a tensor that repeats its numbers")

    @property
    def dtype(self) -> torch.dtype:
        """Type of its numbers."""
        return self.storage.dtype

    @property
    def cost(self) -> int:
        """Bytes of memory that ``tensor`` takes at most."""
        return (self.span + self.count) * self.dtype.itemsize

    def tensor(self) -> Tensor:
        """The numbers, copied out of the file, contiguous."""
        if not self.count:
            return torch.empty(self.shape, dtype=self.dtype)
        assert self.storage.data is not None
        size = self.dtype.itemsize
        raw = torch.frombuffer(self.storage.data, dtype=torch.uint8, count=self.span * size, offset=self.offset * size)
        return raw.clone().view(self.dtype).as_strided(self.shape, self.stride).contiguous()

    def meta(self) -> Tensor:
        """A meta tensor of its shape and type; nothing is read."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


def is_tensor(value: Any) -> TypeGuard[Stored]:
    """Whether a value is a tensor whose numbers can be read."""
    return isinstance(value, Stored) and value.readable


def stored(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Stored:
    """``torch._utils._rebuild_tensor_v2``, to be read later; gradients and hooks are dropped."""
    return Stored(storage, offset, shape, stride)


def view(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    """``torch._utils._rebuild_tensor_v2``, as a view of its storage; gradients and hooks are dropped."""
    span(storage, offset, shape, stride)
    flat: Tensor = storage.flat
    return flat.as_strided(shape, stride, offset)


def array(data: Any, dtype: torch.dtype, shape: Any, fortran: bool = False) -> Stored:
    """A NumPy array, dense in ``data``; the last axis varies fastest or, with ``fortran``, the first."""
    if not isinstance(data, memoryview) or not isinstance(shape, tuple) or len(shape) > MAX_AXES:
        raise ValueError("an array without numbers or shape")
    if not all(type(n) is int and 0 <= n < MAX_SIZE for n in shape):
        raise ValueError("an array of impossible shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("an array of another size than its numbers")
    strides = [math.prod(shape[:n] if fortran else shape[n + 1 :]) for n in range(len(shape))]
    return Stored(Storage(dtype, math.prod(shape), data), 0, shape, tuple(min(step, MAX_SIZE - 1) for step in strides))


def blank_array(*_: Any) -> Stored:
    """``numpy.core.multiarray._reconstruct``: an array whose content comes later, as its state."""
    blank = Stored(Storage(torch.uint8, 0, memoryview(b"")), 0, (0,), (1,))
    blank.readable = False
    return blank


def fill_array(blank: Stored, state: Any) -> None:
    """Give an array the state that NumPy pickles: version, shape, dtype, order, bytes."""
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], ArrayType):
        raise ValueError("an array of unknown type")
    _, shape, kind, fortran, data = state
    if kind.dtype is not None:
        blank.__dict__.update(vars(array(data, kind.dtype, shape, fortran is True)), readable=True)


def array_from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Stored:
    """``numpy.core.numeric._frombuffer`` (protocol 5)."""
    if not isinstance(kind, ArrayType):
        raise ValueError("an array of unknown type")
    return blank_array() if kind.dtype is None else array(data, kind.dtype, shape, order == "F")


def scalar(kind: Any, data: Any = None) -> Stored:
    """``numpy.core.multiarray.scalar``, as a tensor without axes."""
    if not isinstance(kind, ArrayType):
        raise ValueError("a number of unknown type")
    return blank_array() if kind.dtype is None else array(data, kind.dtype, ())


def array_type(code: Any, *_: Any) -> ArrayType:
    """``numpy.dtype``."""
    return ArrayType(ARRAY_TYPES.get(code.lstrip("<|=")) if isinstance(code, str) and len(code) <= 3 else None)


def set_byte_order(kind: ArrayType, state: Any) -> None:
    """Give a dtype the state that NumPy pickles; a type with the big end first is none that weights have."""
    if not isinstance(state, tuple) or len(state) < 2:
        raise ValueError("a dtype of another layout")
    if state[1] not in ("<", "|", "="):
        kind.dtype = None
