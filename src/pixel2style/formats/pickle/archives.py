"""PyTorch's files, the zips and those from before 1.6, read without running their pickles.

Either container holds one pickle, which ``claims`` reads, and beside it the numbers of its storages: those of a zip
stay where they lie. PyTorch stores them plainly and each once; what would unfold to more than the file has is refused.
This module does not know what the tensors are.
"""

import argparse
import mmap
import pickle
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .claims import Machine
from .machine import MAGIC, VERSION
from .tensors import SHARED, is_tensor

_LEGACY = pickle.dumps(MAGIC, 2)
"""How a file from before zips begins."""


IMPOSTORS = {
    b"<": "a web page",
    b"version https://git-lfs": "a pointer of git-lfs",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x1f\x8b": "a compressed archive",
    b"Rar!": "a compressed archive",
    b"7z\xbc\xaf": "a compressed archive",
}
"""How files begin that come down where a model was meant, and what they are."""


def impostor(path: Path) -> str:
    """What a file is that nobody would take for weights, by how it begins; nothing where it may be weights."""
    with path.open("rb") as file:
        start = file.read(100)
    if not start:
        return "empty"
    return next((what for sign, what in IMPOSTORS.items() if start.lstrip().startswith(sign)), "")


def is_archive(path: Path) -> bool:
    """Whether a file begins, or as a zip ends, as PyTorch's do."""
    with path.open("rb") as file:
        return file.read(len(_LEGACY)) == _LEGACY or zipfile.is_zipfile(path)


def read(path: Path, numbers: bool = True) -> Any:
    """What a PyTorch file holds: plain values, tensors and, for what is neither, Records.

    Tensors of a zip lie in the file, which must not change meanwhile. Without ``numbers`` all are meta tensors and none
    is read. Raises UnsafeNameError for a name that nothing of PyTorch's needs, and whatever damaged bytes raise.
    """
    with path.open("rb") as file:
        # Written to, it would not change the file: PyTorch asks for buffers that may be written.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    open_one = _read_legacy if view[: len(_LEGACY)] == _LEGACY else partial(_read_zip, path)
    return _settled(open_one(view, numbers), numbers, len(view))


def _read_zip(path: Path, view: memoryview, numbers: bool) -> Any:
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
    members = {member.filename: member for member in listed}
    if len(members) != len(listed) or any(member.compress_type != zipfile.ZIP_STORED for member in listed):
        raise ValueError("members that are compressed, or twice")
    (pickled,) = (name for name in members if name.endswith("/data.pkl") and name.count("/") == 1)
    root = pickled.removesuffix("data.pkl")
    if f"{root}byteorder" in members and bytes(_member(members[f"{root}byteorder"], view)[0]) != b"little":
        raise ValueError("numbers in another byte order")
    places: list[tuple[int, int]] = []

    def find(key: str, kind: torch.dtype, count: int) -> Tensor:
        data, start = _member(members[f"{root}data/{key}"], view)
        length = count * kind.itemsize
        if len(data) < length:
            raise ValueError("a storage beyond its member")
        places.append((start, start + length))
        return _flat(data, kind, count) if numbers else torch.empty(count, dtype=kind, device="meta")

    content = Machine(_member(members[pickled], view)[0], len(view), find).run()
    if any(end > start for (_, end), (start, _) in pairwise(sorted(p for p in places if p[0] < p[1]))):
        raise ValueError("one byte in two storages")
    return content


def _member(member: zipfile.ZipInfo, view: memoryview) -> tuple[memoryview, int]:
    """The bytes of a stored member, not copied, and where they begin."""
    head = view[member.header_offset : member.header_offset + 30]
    name, more = struct.unpack("<HH", head[26:30])
    start = member.header_offset + 30 + name + more
    found = view[start : start + member.file_size]
    if bytes(head[:4]) != b"PK\x03\x04" or member.flag_bits & 1 or len(found) != member.file_size:
        raise ValueError("a member that is not there")
    return found, start


def _flat(data: memoryview, kind: torch.dtype, count: int) -> Tensor:
    """The numbers in ``data``, where they lie if they may lie there."""
    if not count:
        return torch.empty(0, dtype=kind)
    raw = torch.frombuffer(data, dtype=torch.uint8, count=count * kind.itemsize)
    return (raw if raw.data_ptr() % kind.itemsize == 0 else raw.clone()).view(kind)


def _read_legacy(view: memoryview, numbers: bool) -> Any:
    """Five pickles (two numbers, the system, the content, the storages' keys), then a count and the numbers of each."""
    device = "cpu" if numbers else "meta"
    machine = Machine(view, len(view), lambda _, kind, count: torch.empty(count, dtype=kind, device=device))
    magic, version, system, content, keys = (machine.run() for _ in range(5))
    if (magic, version) != (MAGIC, VERSION) or not isinstance(system, dict) or system.get("little_endian") is False:
        raise ValueError("a file of another layout")
    if not isinstance(keys, list) or sorted(keys) != sorted(machine.claims):
        raise ValueError("storages without numbers")
    for key in keys:
        kind, count, flat = machine.claims[key]
        if count != machine.number("<q"):
            raise ValueError("a storage of another size")
        data = machine.take(count * kind.itemsize)
        if numbers and count:
            flat.view(torch.uint8).copy_(torch.frombuffer(data, dtype=torch.uint8))
    return content


def _settled(content: Any, numbers: bool, size: int) -> Any:
    """``content`` with NumPy's arrays as tensors, in whatever dictionaries and lists they lie."""
    left = 2 * size + SHARED
    made: dict[int, Tensor] = {}
    for holder in _holders(content):
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if not is_tensor(value):
                continue
            if id(value) not in made:
                left -= value.cost
                if left < 0:
                    raise ValueError("arrays beyond the file")
                blank = torch.empty(value.shape, dtype=value.kind, device="meta")
                made[id(value)] = value.tensor() if numbers else blank
            holder[key] = made[id(value)]
    return content


def _holders(content: Any) -> Iterator[dict[Any, Any] | list[Any]]:
    """All dictionaries and lists in plain containers, however they are nested, each once."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        value = vars(value) if isinstance(value, argparse.Namespace) else value
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
            if not isinstance(value, tuple):
                yield value
