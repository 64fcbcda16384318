"""Stopping a run from outside: Ctrl-C and SIGTERM are noticed between two steps, in any process, and obeyed by all."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from .distributed import any_process

if TYPE_CHECKING:
    from accelerate import Accelerator

REPEATED = 10.0
"""Seconds within which a launched process may get the same Ctrl-C twice: from the terminal and from its launcher."""


class Stop:
    """Whether a signal has asked the run to stop. A second signal interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.ignore_for = REPEATED if os.environ.get("WORLD_SIZE", "1") != "1" else 0.0
        self._received = 0.0

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._received = number, now
        elif now - self._received >= self.ignore_for:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals while the block runs; outside the main thread that is impossible, and nothing is handled."""
        before = {}
        with contextlib.suppress(ValueError):
            before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def requested(self, accelerator: "Accelerator") -> bool:
        """Whether any process was asked to stop: all must stop at the same step."""
        requested = any_process(self.signal is not None, accelerator)
        if requested and self.signal is None:
            self.signal = signal.SIGTERM
        return requested
