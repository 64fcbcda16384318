"""When someone wants a run to stop: Ctrl-C and SIGTERM, heard between two steps and agreed on by all processes."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


class Stop:
    """Whether someone has asked the run to stop. A second signal interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def _asked(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs; outside the main thread nobody can."""
        before = {}
        with contextlib.suppress(ValueError):
            before = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def agreed(self, accelerator: "Accelerator") -> bool:
        """Whether any process was asked: all must stop at the same step."""
        if accelerator.num_processes == 1:
            return self.signal is not None
        asked = torch.tensor([float(self.signal is not None)], device=accelerator.device)
        return bool(cast(Tensor, accelerator.reduce(asked, "sum")) > 0)
