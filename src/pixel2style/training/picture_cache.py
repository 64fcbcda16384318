"""Decoded pictures in memory, in as few bytes as hold them exactly.

A photograph in bytes takes a quarter of its float tensor, one-hot label maps in bits a thirty-second: the difference
between a data set that fits into memory and one that is decoded again every epoch.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """A tensor in its smallest exact form: bits of 0 and 1, bytes over [-1, 1] or [0, 1], or as it is."""

    content: Tensor
    shape: torch.Size
    unpack: Callable[[Tensor, torch.Size], Tensor]

    def tensor(self) -> Tensor:
        """The tensor that was packed, bit for bit."""
        return self.unpack(self.content, self.shape)


class PictureCache:
    """Tensors by name, read at first use and kept until ``memory`` GB are full. Safe to share between threads."""

    def __init__(self, memory: float):
        self.left = int(memory * 1e9)
        self._found: dict[str, Packed] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def __call__(self, name: str, read: Callable[[], Tensor]) -> Tensor:
        """The float tensor called ``name``, from memory or from ``read``."""
        found = self._found.get(name)
        if found is not None:
            return found.tensor()
        tensor = read()
        if self.left > 0:
            self._keep(name, pack(tensor))
        return tensor

    def _keep(self, name: str, tensor: Packed) -> None:
        with self._lock:
            if name in self._found:
                return
            if tensor.content.nbytes > self.left:
                self.left = 0  # full: stop packing what will not fit
                return
            self._found[name] = tensor
            self.left -= tensor.content.nbytes


def pack(tensor: Tensor) -> Packed:
    """A float tensor in the fewest bytes from which it can be restored exactly."""
    if bool(((tensor == 0) | (tensor == 1)).all()):
        bits = torch.from_numpy(np.packbits(tensor.numpy().astype(bool)))
        return Packed(bits, tensor.shape, _from_bits)
    for scaled, unpack in (((tensor + 1) * 127.5, _from_signed), (tensor * 255, _from_unsigned)):
        small = Packed(scaled.round().clamp(0, 255).to(torch.uint8), tensor.shape, unpack)
        if torch.equal(small.tensor(), tensor):
            return small
    return Packed(tensor, tensor.shape, _copy)


def _from_signed(content: Tensor, shape: torch.Size) -> Tensor:
    return content.float() / 127.5 - 1


def _from_unsigned(content: Tensor, shape: torch.Size) -> Tensor:
    return content.float() / 255


def _from_bits(content: Tensor, shape: torch.Size) -> Tensor:
    return torch.from_numpy(np.unpackbits(content.numpy(), count=shape.numel())).reshape(shape).float()


def _copy(content: Tensor, shape: torch.Size) -> Tensor:
    return content.clone()  # the caller may change what it gets
