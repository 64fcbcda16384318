"""Weights & Biases: one W&B run for one folder, however often the run is resumed, online or offline.

A remote service fails in ways of its own: no key, no network, a service that is gone. None of them may ask a question
or stop the training; each is reported in one sentence, and the run continues. Only W&B's public interface is used.
"""

import contextlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import wandb

from ... import files, images
from ...config import TrainConfig
from ...errors import complain
from . import MAX_ROWS, Row, as_json, sheet
from .jsonl import LOG

FILE = "wandb.json"
"""In the folder of a run: ``id`` of its W&B run, and ``next``, the first step that W&B has not got."""
EMPTY = 7
"""Bytes of an offline file to which nothing was logged."""
TIMEOUT = 30.0
"""Seconds to wait for W&B before a run continues without it."""
Mode = Literal["online", "offline"]


class Wandb:
    """The W&B run of a folder. Its W&B step is the run's step, and so is the axis of all its curves.

    W&B keeps a step when the next one is logged, and cannot change one that it has kept. So a session first sends what
    ``log.jsonl`` has and W&B has not, and does not send the steps again that a resumed run repeats. Which these are,
    W&B's server says; offline, ``wandb.json`` does.
    """

    def __init__(self, config: TrainConfig, folder: Path):
        self._folder = folder
        self._tables: dict[str, wandb.Table] = {}
        self._step = -1
        self._run: wandb.Run | None = None
        with self._without_failing():
            self._id, self._next = _identity(folder)
            self._run = _start(config, folder, self._id)
            if self._run is not None:
                if not self._run.offline:
                    self._next = self._run.starting_step
                self._send_log()

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """``values``, in the row of this step."""
        self._log(step, lambda: dict(values))

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """A sheet, and further rows of the one table of this name."""
        self._log(step, lambda: {f"{name}/pictures": _image(sheet(rows)), **self._table(step, name, rows)})

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """The summary of the W&B run."""
        with self._without_failing():
            if self._run is not None:
                self._run.summary.update(dict(values))

    def close(self, failed: bool = False) -> None:
        """End this session, with two minutes for what has not been sent."""
        with self._without_failing():
            if self._run is not None:
                self._run.finish(exit_code=int(failed))
                if wandb.run is None:
                    wandb.teardown()  # else the offline file is incomplete while this process lives
                self._remember(self._step + 1)
        self._run = None

    def _log(self, step: int, values: Callable[[], dict[str, Any]]) -> None:
        if self._run is None or step < self._next:
            return
        with self._without_failing(), _staging_in(self._folder):
            self._run.log({"step": step, **values()}, step=step)
            if step > self._step:
                self._step = step
                self._remember(step)

    def _remember(self, step: int) -> None:
        """All steps below ``step`` are W&B's now."""
        if step > self._next:
            files.write_json(self._folder / FILE, {"id": self._id, "next": step})

    def _table(self, step: int, name: str, rows: Sequence[Row]) -> dict[str, wandb.Table]:
        key, shown = f"{name}/table", list(rows[0].pictures)
        if key not in self._tables:
            scores = dict.fromkeys(score for row in rows for score in row.scores)
            self._tables[key] = wandb.Table(columns=["step", "name", *shown, *scores], log_mode="INCREMENTAL")
        table = self._tables[key]
        for row in rows:
            cells: dict[str | int, Any] = {"step": step, "name": row.name}
            cells |= {title: _image(images.to_picture(row.pictures[title])) for title in shown}
            cells |= {title: float(score) for title, score in row.scores.items()}
            table.add_data(*(cells.get(column) for column in table.columns))
        return {key: table}

    def _send_log(self) -> None:
        """Send what ``log.jsonl`` has from step ``_next`` on, and the summary."""
        log = self._folder / LOG
        for line in log.read_bytes().splitlines() if log.exists() else ():
            values = json.loads(line)
            step = values.pop("step")
            if "summary" in values:
                self.summary(values["summary"])
            elif step < self._next:
                continue
            elif "pictures" not in values:
                self.numbers(step, {name: value for name, value in values.items() if isinstance(value, int | float)})
            elif (self._folder / values["file"]).exists():
                self.pictures(step, values["pictures"], _rows(self._folder, values))

    @contextlib.contextmanager
    def _without_failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 (W&B raises nearly anything when its service is gone)
            self._run = None
            complain(f"W&B gets no more ({error}); the run continues, and {self._folder / LOG} has everything")


def _start(config: TrainConfig, folder: Path, name: str) -> wandb.Run | None:
    """The folder's W&B run; offline where W&B cannot be reached, None where it is disabled."""
    mode = wandb.setup().settings.mode
    if mode == "disabled":
        return None
    offline = mode in ("offline", "dryrun")
    later = f"so the run stays offline; send it later with: wandb sync {folder / 'wandb'}"
    if not offline and not _logged_in():
        offline = True
        complain(f"W&B has no key (wandb login asks for one), {later}")
    _remove_empty_sessions(folder)
    if offline:
        return _init(config, folder, name, "offline")
    try:
        return _init(config, folder, name, "online")
    except Exception as error:  # noqa: BLE001 (as above)
        complain(f"W&B cannot be reached ({(str(error) or type(error).__name__).splitlines()[0]}), {later}")
        wandb.teardown()  # else its service takes the run for one that is open
        return _init(config, folder, name, "offline")


def _init(config: TrainConfig, folder: Path, name: str, mode: Mode) -> wandb.Run:
    run = wandb.init(
        project=config.project,
        dir=str(folder),
        id=name,
        name=folder.resolve().name,
        resume="allow",
        reinit="create_new",
        mode=mode,
        config=as_json(config),
        allow_val_change=True,
        settings=wandb.Settings(silent=True, console="off", init_timeout=TIMEOUT, finish_timeout=120),
    )
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run


def _remove_empty_sessions(folder: Path) -> None:
    """Remove sessions that were killed before W&B wrote anything: ``wandb sync`` would stop at them."""
    for file in (folder / "wandb").glob("*run-*/run-*.wandb"):
        if not file.parent.is_symlink() and file.stat().st_size <= EMPTY:
            shutil.rmtree(file.parent, ignore_errors=True)


def _logged_in() -> bool:
    """Whether W&B has a key; it is not asked for, and nothing is printed."""
    with contextlib.redirect_stderr(io.StringIO()):
        return wandb.login(prompt=False, verify=False)


def _identity(folder: Path) -> tuple[str, int]:
    """The id of the folder's W&B run and the first step that W&B has not got: kept there, or new."""
    file = folder / FILE
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        kept = json.loads(file.read_bytes())
        return str(kept["id"]), int(kept.get("next", 0))
    name = wandb.setup().settings.run_id or secrets.token_hex(4)
    files.write_json(file, {"id": name, "next": 0})
    return name, 0


@contextlib.contextmanager
def _staging_in(folder: Path) -> Iterator[None]:
    """Keep the pictures of tables in the run's folder until they are sent, not in the user's home."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str((folder / "wandb" / "data").resolve())
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _image(image: Any) -> wandb.Image:
    return wandb.Image(image, file_type="jpg")


def _rows(folder: Path, logged: Mapping[str, Any]) -> list[Row]:
    """The rows of a line of the log, as far as its sheet shows them."""
    whole = images.to_tensor(images.load(folder / logged["file"]))
    columns, rows = logged["columns"], logged["rows"][:MAX_ROWS]
    tiles = [strip.chunk(len(columns), dim=2) for strip in whole.chunk(len(rows), dim=1)]
    return [
        Row(
            row["name"],
            dict(zip(columns, tile, strict=True)),
            {k: v for k, v in row.items() if k != "name" and v is not None},
        )
        for row, tile in zip(rows, tiles, strict=True)
    ]
