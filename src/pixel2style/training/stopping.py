"""When someone wants a run to stop: Ctrl-C and SIGTERM, heard between two steps and agreed on by all processes."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


ECHO = 10.0
"""Seconds within which a launched process hears Ctrl-C again: from the terminal, and then from its launcher."""


class Stop:
    """Whether someone has asked the run to stop. A second signal interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.patience = ECHO if os.environ.get("WORLD_SIZE", "1") != "1" else 0.0
        self._heard = 0.0

    def _asked(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._heard = number, now
        elif now - self._heard >= self.patience:
            raise KeyboardInterrupt

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
        someone = bool(cast(Tensor, accelerator.reduce(asked, "sum")) > 0)
        if someone and self.signal is None:
            self.signal = signal.SIGTERM
        return someone
