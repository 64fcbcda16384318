"""PyTorch's zip files, checked beyond what PyTorch checks.

Its reader maps a storage from where the zip says that it begins, as long as the pickle says that it is. So a zip whose
members are compressed could unfold to any size, and one whose pickle claims too much would be filled with whatever
bytes come next. This module does not know what the tensors are.
"""

import argparse
import zipfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def refuse_compressed(path: Path) -> None:
    """Raise ValueError where a member is compressed: PyTorch stores tensors plainly."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("compressed members")


def refuse_overlapping(path: Path, content: Any) -> None:
    """Raise ValueError where tensors mapped from a zip claim more bytes than its members have, or one byte twice."""
    with zipfile.ZipFile(path) as archive:
        there = sum(member.file_size for member in archive.infolist() if "/data/" in member.filename)
    stored = [value.untyped_storage() for value in _tensors(content) if value.layout is torch.strided]
    storages = {storage.data_ptr(): storage.nbytes() for storage in stored}
    places = sorted((start, start + length) for start, length in storages.items() if length)
    if sum(storages.values()) > there or any(end > start for (_, end), (start, _) in pairwise(places)):
        raise ValueError("storages beyond their members")


def refuse_absent(content: Any) -> None:
    """Raise ValueError where a tensor has a shape and no numbers, as only tensors that were never stored have."""
    if any(value.device.type != "cpu" for value in _tensors(content)):
        raise ValueError("tensors without numbers")


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors in plain containers, however they are nested, each container once."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, argparse.Namespace):
                value = vars(value)
            if isinstance(value, Mapping | list | tuple | set):
                waiting.extend(value.values() if isinstance(value, Mapping) else value)
