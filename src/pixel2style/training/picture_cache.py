"""What was read from files once, kept in memory in as few bytes as hold it exactly.

A decoded photograph in bytes is a quarter of it in numbers, and one-hot label maps in bits are a thirty-second: the
difference between a data set that fits into memory and one that is decoded again every epoch. Threads may share it.
This module does not know what the numbers show.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """A tensor and how to get it back: bits of 0 and 1, bytes over [-1, 1] or [0, 1], or itself."""

    content: Tensor
    shape: torch.Size
    unpack: Callable[[Tensor, torch.Size], Tensor]

    def tensor(self) -> Tensor:
        """The tensor as it was, bit for bit."""
        return self.unpack(self.content, self.shape)


class Kept:
    """Tensors by name, read when they are first asked for and kept until ``memory`` GB are full."""

    def __init__(self, memory: float):
        self.left = int(memory * 1e9)
        self._found: dict[str, Packed] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def __call__(self, name: str, read: Callable[[], Tensor]) -> Tensor:
        """The float tensor called ``name``: kept, or read again."""
        found = self._found.get(name)
        if found is not None:
            return found.tensor()
        tensor = read()
        if self.left > 0:
            self._keep(name, packed(tensor))
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


def packed(tensor: Tensor) -> Packed:
    """A float tensor in the fewest bytes that give it back exactly."""
    if bool(((tensor == 0) | (tensor == 1)).all()):
        bits = torch.from_numpy(np.packbits(tensor.numpy().astype(bool)))
        return Packed(bits, tensor.shape, _bits)
    for scaled, unpack in (((tensor + 1) * 127.5, _signed), (tensor * 255, _unsigned)):
        small = Packed(scaled.round().clamp(0, 255).to(torch.uint8), tensor.shape, unpack)
        if torch.equal(small.tensor(), tensor):
            return small
    return Packed(tensor, tensor.shape, _as_it_is)


def to_float(pixels: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def _signed(content: Tensor, shape: torch.Size) -> Tensor:
    return to_float(content)


def _unsigned(content: Tensor, shape: torch.Size) -> Tensor:
    return content.float() / 255


def _bits(content: Tensor, shape: torch.Size) -> Tensor:
    return torch.from_numpy(np.unpackbits(content.numpy(), count=shape.numel())).reshape(shape).float()


def _as_it_is(content: Tensor, shape: torch.Size) -> Tensor:
    return content.clone()  # whoever gets it may change it
