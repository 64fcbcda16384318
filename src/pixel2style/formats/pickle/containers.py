"""The two containers of ``torch.save``: zips, and the files from before PyTorch 1.6.

Both hold a pickle and, beside it, the numbers of the storages that it refers to. Numbers of a zip stay where they lie;
PyTorch stores members uncompressed and each once, anything else is refused.
"""

import argparse
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..state_dicts import MAX_SHARED
from .builders import PYTORCH, STORAGE, Name
from .machine import Budget, Machine
from .tensors import MAX_SIZE, STORAGE_TYPES, Storage, is_tensor

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
LEGACY = pickle.dumps(MAGIC, 2)
"""How a file from before PyTorch 1.6 begins, and so does every storage in a pickle: two numbers, pickled."""


def mapped(path: Path) -> memoryview:
    """The bytes of a file, mapped. Raises OSError, and ValueError for an empty file."""
    with path.open("rb") as file:
        # PyTorch asks for buffers that may be written to; writing to this one would not change the file.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def is_container(path: Path) -> bool:
    """Whether a file begins, or as a zip ends, as those of ``torch.save`` do."""
    with path.open("rb") as file:
        return file.read(len(LEGACY)) == LEGACY or zipfile.is_zipfile(path)


def read(path: Path, numbers: bool = True) -> Any:
    """The content of a container: plain values, tensors and, for anything else, ``Record``.

    Tensors of a zip lie in the file, which must not change while they are used. Without ``numbers`` all are meta
    tensors and no number is read. Raises UnsafeNameError for a name that no file of PyTorch needs, and what damaged
    bytes raise.
    """
    view = mapped(path)
    content = _read_legacy(view, numbers) if view[: len(LEGACY)] == LEGACY else _read_zip(path, view, numbers)
    return _arrays_as_tensors(content, numbers, len(view))


def storage_of(budget: Budget, stream: Any) -> Storage:
    """``torch.storage._load_from_bytes``: a storage in the bytes of a legacy file, which spends the same ``budget``."""
    if not isinstance(stream, memoryview):
        raise ValueError("a storage without bytes")
    machine = Machine(stream, budget, STORAGE, reference=lambda described: described)
    described, _ = _legacy_content(machine)
    word, kind, _, _, count, part = described
    if word != "storage" or not isinstance(kind, Name) or type(count) is not int or part is not None:
        raise ValueError("a storage of another layout")
    if count != machine.number("<q"):
        raise ValueError("a storage of another size")
    dtype = STORAGE_TYPES[kind.name]
    return Storage(dtype, count, machine.take(count * dtype.itemsize))


def _legacy_content(machine: Machine) -> tuple[Any, Any]:
    """The content of a legacy file and the keys of its storages, which are the last two of five pickles."""
    magic, version, system, content, keys = (machine.run() for _ in range(5))
    if (magic, version) != (MAGIC, VERSION) or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("a file of another layout")
    return content, keys


class Storages:
    """The storages of one file by their keys. ``find`` gives the numbers, in a row, of a key, a type and a count."""

    def __init__(self, size: int, find: Callable[[str, torch.dtype, int], Tensor]):
        self.left = size
        self.find = find
        self.by_key: dict[str, Storage] = {}

    def __call__(self, described: Any) -> Storage:
        """The storage that a persistent id describes; all of them together claim no more bytes than the file has."""
        word, kind, key, _, count, *views = described
        if word != "storage" or not isinstance(kind, Name) or any(view is not None for view in views):
            raise ValueError("a reference to something outside the file")
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < MAX_SIZE:
            raise ValueError("a storage of impossible size")
        dtype = STORAGE_TYPES[kind.name]
        if key not in self.by_key:
            self.left -= count * dtype.itemsize
            if self.left < 0:
                raise ValueError("storages beyond the file")
            self.by_key[key] = Storage(dtype, count, flat=self.find(key, dtype, count))
        found = self.by_key[key]
        if (found.dtype, found.length) != (dtype, count):
            raise ValueError("a storage of two sizes")
        return found


def _read_legacy(view: memoryview, numbers: bool) -> Any:
    """Behind the pickles lie, for each storage, its count and its numbers."""
    device = "cpu" if numbers else "meta"
    storages = Storages(len(view), lambda _, dtype, count: torch.empty(count, dtype=dtype, device=device))
    machine = Machine(view, Budget(len(view), PYTORCH.steps), PYTORCH, storages)
    content, keys = _legacy_content(machine)
    if not isinstance(keys, list) or sorted(keys) != sorted(storages.by_key):
        raise ValueError("storages without numbers")
    for key in keys:
        storage = storages.by_key[key]
        if storage.length != machine.number("<q"):
            raise ValueError("a storage of another size")
        data = machine.take(storage.length * storage.dtype.itemsize)
        if numbers and storage.length and storage.flat is not None:
            storage.flat.view(torch.uint8).copy_(torch.frombuffer(data, dtype=torch.uint8))
    return content


def _read_zip(path: Path, view: memoryview, numbers: bool) -> Any:
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
    members = {member.filename: member for member in listed}
    if len(members) != len(listed) or any(member.compress_type != zipfile.ZIP_STORED for member in listed):
        raise ValueError("members that are compressed, or stored twice")
    (pickled,) = (name for name in members if name.endswith("/data.pkl") and name.count("/") == 1)
    root = pickled.removesuffix("data.pkl")
    if f"{root}byteorder" in members and bytes(_member(members[f"{root}byteorder"], view)[0]) != b"little":
        raise ValueError("numbers in another byte order")
    places: list[tuple[int, int]] = []

    def find(key: str, dtype: torch.dtype, count: int) -> Tensor:
        data, start = _member(members[f"{root}data/{key}"], view)
        length = count * dtype.itemsize
        if len(data) < length:
            raise ValueError("a storage beyond its member")
        places.append((start, start + length))
        return _flat(data, dtype, count) if numbers else torch.empty(count, dtype=dtype, device="meta")

    data, _ = _member(members[pickled], view)
    content = Machine(data, Budget(len(view), PYTORCH.steps), PYTORCH, Storages(len(view), find)).run()
    if any(end > start for (_, end), (start, _) in pairwise(sorted(p for p in places if p[0] < p[1]))):
        raise ValueError("one byte in two storages")
    return content


def _member(member: zipfile.ZipInfo, view: memoryview) -> tuple[memoryview, int]:
    """The bytes of a stored member, not copied, and where they begin."""
    head = view[member.header_offset : member.header_offset + 30]
    name, extra = struct.unpack("<HH", head[26:30])
    start = member.header_offset + 30 + name + extra
    found = view[start : start + member.file_size]
    if bytes(head[:4]) != b"PK\x03\x04" or member.flag_bits & 1 or len(found) != member.file_size:
        raise ValueError("a member that is not there")
    return found, start


def _flat(data: memoryview, dtype: torch.dtype, count: int) -> Tensor:
    """The numbers in ``data``, copied only where they are not aligned."""
    if not count:
        return torch.empty(0, dtype=dtype)
    raw = torch.frombuffer(data, dtype=torch.uint8, count=count * dtype.itemsize)
    return (raw if raw.data_ptr() % dtype.itemsize == 0 else raw.clone()).view(dtype)


def _arrays_as_tensors(content: Any, numbers: bool, size: int) -> Any:
    """``content`` with NumPy's arrays as tensors, in whichever dictionaries and lists they lie."""
    left = 2 * size + MAX_SHARED
    made: dict[int, Tensor] = {}
    for holder in _holders(content):
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if not is_tensor(value):
                continue
            if id(value) not in made:
                left -= value.cost
                if left < 0:
                    raise ValueError("arrays beyond the file")
                made[id(value)] = value.tensor() if numbers else value.meta()
            holder[key] = made[id(value)]
    return content


def _holders(content: Any) -> Iterator[dict[Any, Any] | list[Any]]:
    """All dictionaries and lists in plain containers, however nested, each once."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        value = vars(value) if isinstance(value, argparse.Namespace) else value
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
            if not isinstance(value, tuple):
                yield value
