"""What happens between the steps of a run: logging, evaluation, saving, and when to stop.

The first of several processes alone tracks, evaluates and saves; all of them call the same methods, since averaging and
stopping are decided together.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ..metrics.scores import Scorer
from ..runtime import memory_gb
from . import logging
from .batches import pictures_at
from .dataset import Pictures
from .distributed import any_process, average
from .evaluate import evaluate, training_rows
from .run_folder import RunFolder
from .state import State, TrainContext, save, save_model
from .stopping import Stop

Watch = Callable[[int, Mapping[str, float]], None]
"""Gets the number of every step and, at logged ones, its losses; at evaluations the validation loss and scores."""


class Monitor:
    """Logs, evaluates and saves a run in ``folder``; without a folder it only calls ``watch``."""

    def __init__(
        self,
        state: State,
        context: TrainContext,
        folder: RunFolder | None = None,
        validation: Pictures | None = None,
        watch: Watch | None = None,
        stop: Stop | None = None,
    ):
        self.state, self.context, self.folder, self.validation = state, context, folder, validation
        self.watch = watch or (lambda step, losses: None)
        self.stop = stop or Stop()
        self.tracker: logging.Tracker | None = None
        self.scorer: Scorer | None = None
        self.start()

    @contextlib.contextmanager
    def tracking(self) -> Iterator[None]:
        """Open the trackers and the scoring networks of the first process; close the trackers after the block."""
        assert self.folder is not None
        self.scorer = Scorer(self.context.device, faces=self.context.task.faces)
        self.tracker = logging.make_tracker(self.context.config, self.folder.path, self.state.step)
        failed = True
        try:
            yield
            failed = False
        finally:
            self.tracker.close(failed=failed)

    def start(self) -> None:
        """Start the clocks of ``config.minutes`` and of the speed."""
        self._started = self._logged_at = time.monotonic()
        self._logged_step = self.state.step

    def stopping(self) -> bool:
        """Whether the run was asked to stop or its minutes are over, in any process."""
        accelerator, minutes = self.context.accelerator, self.context.config.minutes
        if self.stop.requested(accelerator):
            return True
        return minutes > 0 and any_process(time.monotonic() - self._started > 60 * minutes, accelerator)

    def tick(self) -> None:
        """Report a step that is not logged."""
        self.watch(self.state.step, {})

    def log(self, losses: Mapping[str, Tensor]) -> None:
        """Log a step's losses, averaged over the processes, with speed and memory since the last time."""
        state, config, device = self.state, self.context.config, self.context.device
        mean = torch.stack([value.float().to(device) for value in losses.values()])
        average([mean], self.context.accelerator)
        values = dict(zip(losses, mean.tolist(), strict=True))
        now = time.monotonic()
        seconds, taken = now - self._logged_at, range(self._logged_step, state.step)
        pictures = sum(pictures_at(config, step) for step in taken)
        self._logged_at, self._logged_step = now, state.step
        if self.tracker:
            self.tracker.numbers(
                state.step,
                {f"train/{name}": value for name, value in values.items()}
                | {
                    "lr": state.optimizer.param_groups[0]["lr"],
                    "pictures_per_s": pictures / max(seconds, 1e-9),
                    "memory_gb": memory_gb(device),
                    "skipped_steps": float(state.skipped),
                    "seconds": now - self._started,
                },
            )
        self.watch(state.step, values)

    def evaluate(self) -> None:
        """Evaluate the validation pictures, keep the best model, and log example pictures."""
        if not (self.tracker and self.scorer and self.folder):
            return
        state, context = self.state, self.context
        if self.validation is not None:
            found = evaluate(state, context, self.scorer, self.validation)
            loss = found.losses["loss"]
            scores = {f"scores/{name}": value for name, value in found.scores.items()}
            self.tracker.numbers(
                state.step, {f"validation/{name}": value for name, value in found.losses.items()} | scores
            )
            self.watch(state.step, {"validation/loss": loss, **scores})
            self.tracker.pictures(state.step, "validation", found.rows)
            if loss < state.best:
                state.best, state.best_step = loss, state.step
                save_model(state, context.config, self.folder.best)
                best = {f"best/{name}": value for name, value in {"loss": loss, **found.scores}.items()}
                self.tracker.summary({"best/step": state.step, "best/file": str(self.folder.best), **best})
        self.tracker.pictures(state.step, "train", training_rows(state, context, self.scorer))

    def save(self) -> None:
        """Save the state and the model, in the first process."""
        if self.folder and self.context.accelerator.is_main_process:
            save(self.state, self.context, self.folder)
