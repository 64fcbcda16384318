"""Weights & Biases, told of a run: one W&B run for one folder, however often it is taken up again, online or offline.

What runs on somebody else's machine fails in ways of its own: no key, no network, a service that is gone. None of them
may ask a question that nobody is there to answer, or stop the training; each is one sentence, and the run goes on.
This module does not know what it passes on.
"""

import contextlib
import json
import netrc
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import wandb
from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from ... import images
from ...config import TrainConfig
from ...errors import complain
from . import LOG, SHOWN, Row, described, sheet, writing

FILE = "wandb.json"
"""In the folder of a run: which W&B run it is."""
PATIENCE = 30.0
"""Seconds to wait for W&B before a run goes on without it."""
FLUSH = 2.0
"""Seconds after which W&B writes to its file; what it then loses in a kill is told again from the log."""
BLOCK = 1 << 15
Mode = Literal["online", "offline"]


class Wandb:
    """One W&B run, continued by whoever opens the folder again, that says what ``log.jsonl`` says, line by line.

    A line is a W&B step; curves are drawn over ``step``, a number in it. W&B cannot take back what it was told, and a
    kill costs it what it has not yet written or sent. So when it is opened again, it is asked how many lines it has:
    those it lacks are told from the log, and those that training brings again, the same to the bit, are not told twice.
    """

    def __init__(self, config: TrainConfig, folder: Path):
        self._folder = folder
        self._tables: dict[str, wandb.Table] = {}
        self._line = self._known = 0
        self._run: wandb.Run | None = None
        with self._going_on():
            self._run = _begun(config, folder)
        with self._going_on():
            if self._run is not None:
                self._known = _lines_in_files(folder, self._run.id) if self._run.offline else self._run.starting_step
                self._catch_up()

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One W&B step with ``values``."""
        self._tell(step, lambda: dict(values))

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """A sheet, and further rows of the one table under this name."""
        if rows:
            self._tell(step, lambda: {f"{name}/pictures": _picture(sheet(rows)), **self._table(step, name, rows)})

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """The run's own summary."""
        self._line += 1
        with self._going_on():
            if self._run is not None:
                self._run.summary.update(dict(values))

    def close(self, failed: bool = False) -> None:
        """End this session, with two minutes for what has not been sent."""
        with self._going_on():
            if self._run is not None:
                self._run.finish(exit_code=int(failed))
                if wandb.run is None:
                    wandb.teardown()  # or, in this process, the file is not yet whole and the run still open
        self._run = None

    def _tell(self, step: int, values: Callable[[], dict[str, Any]]) -> None:
        line, self._line = self._line, self._line + 1
        if self._run is not None and line >= self._known:
            with self._going_on(), _staged_in(self._folder):
                self._run.log({"step": step, **values()}, step=line, commit=True)

    def _table(self, step: int, name: str, rows: Sequence[Row]) -> dict[str, wandb.Table]:
        key, seen = f"{name}/table", list(rows[0].pictures)
        if key not in self._tables:
            scores = dict.fromkeys(score for row in rows for score in row.scores)
            self._tables[key] = wandb.Table(columns=["step", "name", *seen, *scores], log_mode="INCREMENTAL")
        table = self._tables[key]
        for row in rows:
            cells: dict[str | int, Any] = {"step": step, "name": row.name}
            cells |= {title: _picture(images.to_picture(row.pictures[title])) for title in seen}
            cells |= {title: float(score) for title, score in row.scores.items()}
            table.add_data(*(cells.get(column) for column in table.columns))
        return {key: table}

    def _catch_up(self) -> None:
        """Tell the lines of the log, up to where training goes on."""
        with self._going_on():
            log = self._folder / LOG
            for line in log.read_bytes().splitlines() if log.exists() else ():
                said = json.loads(line)
                if "summary" in said:
                    self.summary(said["summary"])
                elif "pictures" not in said:
                    self.numbers(said.pop("step"), {k: v for k, v in said.items() if isinstance(v, int | float)})
                elif self._line < self._known or not (self._folder / said["file"]).exists():
                    self._line += 1
                else:
                    self.pictures(said["step"], said["pictures"], _rows(self._folder, said))

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 (W&B raises nearly anything when its service is gone)
            self._run = None
            complain(f"W&B is told no more ({error}); the run goes on, and {self._folder / LOG} has everything")


def _begun(config: TrainConfig, folder: Path) -> wandb.Run | None:
    """The folder's W&B run; offline where W&B cannot be reached, None where it is disabled."""
    settings = wandb.setup().settings
    if settings.mode == "disabled":
        return None
    mode: Mode = "offline" if settings.mode in ("offline", "dryrun") else "online"
    later = f"so the run stays offline; send it later with: wandb sync {folder / 'wandb'}"
    if mode != "offline" and not _has_key(settings):
        mode = "offline"
        complain(f"W&B has no key (wandb login asks for one), {later}")
    name = _run_id(folder, settings.run_id)
    _clear_stillborn(folder, name)
    try:
        return _opened(config, folder, name, mode)
    except Exception as error:
        if mode == "offline":
            raise
        complain(f"W&B cannot be reached ({(str(error) or type(error).__name__).splitlines()[0]}), {later}")
        wandb.teardown()  # or its service takes the run for one that is open
        return _opened(config, folder, name, "offline")


def _opened(config: TrainConfig, folder: Path, name: str, mode: Mode) -> wandb.Run:
    settings = wandb.Settings(
        silent=True, console="off", init_timeout=PATIENCE, finish_timeout=120, x_transaction_log_flush_interval=FLUSH
    )
    run = wandb.init(
        project=config.project,
        dir=str(folder),
        id=name,
        name=folder.resolve().name,
        resume="allow",
        reinit="create_new",
        mode=mode,
        config=described(config),
        allow_val_change=True,
        settings=settings,
    )
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run


def _run_id(folder: Path, wanted: str | None) -> str:
    """The id of the folder's W&B run: kept there, or made now."""
    file = folder / FILE
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return str(json.loads(file.read_bytes())["id"])
    name = wanted or secrets.token_hex(4)
    with writing(folder):
        part = file.with_name(f"{FILE}.part")
        part.write_text(json.dumps({"id": name}))
        part.replace(file)
    return name


def _has_key(settings: Any) -> bool:
    """Whether W&B would find a key without asking for it."""
    if settings.api_key or settings.identity_token_file:
        return True
    host = urlparse(settings.base_url).hostname or ""
    for file in [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(Path(file).expanduser()).authenticators(host):
                return True
    return False


@contextlib.contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Keep the pictures of tables beside the run until they are sent, not in the user's home."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str((folder / "wandb" / "data").resolve())
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _picture(image: Any) -> wandb.Image:
    return wandb.Image(image, file_type="jpg")


def _rows(folder: Path, said: Mapping[str, Any]) -> list[Row]:
    """The rows that a line of the log speaks of, as far as its sheet shows them."""
    whole = images.to_tensor(images.load(folder / said["file"]))
    columns, rows = said["columns"], said["rows"][:SHOWN]
    tiles = [strip.chunk(len(columns), dim=2) for strip in whole.chunk(len(rows), dim=1)]
    return [
        Row(
            row["name"],
            dict(zip(columns, tile, strict=True)),
            {k: v for k, v in row.items() if k != "name" and v is not None},
        )
        for row, tile in zip(rows, tiles, strict=True)
    ]


def _files(folder: Path, name: str) -> list[Path]:
    """The files of the run's sessions, oldest first."""
    return sorted(f for f in (folder / "wandb").glob(f"*run-*/run-{name}.wandb") if not f.parent.is_symlink())


def _lines_in_files(folder: Path, name: str) -> int:
    """How many lines the files of earlier sessions have, all that is known of them without a server."""
    told = (record for file in _files(folder, name) for record in records(file) if record.HasField("history"))
    return max((record.history.step.num for record in told), default=-1) + 1


def _clear_stillborn(folder: Path, name: str) -> None:
    """Remove sessions that were killed before W&B wrote a word: ``wandb sync`` would stop at them."""
    for file in _files(folder, name):
        if next(records(file), None) is None:
            shutil.rmtree(file.parent, ignore_errors=True)


def records(file: Path) -> Iterator[Record]:
    """What a .wandb file holds, up to where a kill may have torn it, or something has damaged it.

    Blocks of 32 KiB, as in LevelDB's log: pieces behind 7 bytes of checksum, length, and kind (1 a whole record, 2 its
    beginning, 3 its middle, 4 its end); the first block begins with 7 bytes of W&B's own.
    """
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := BLOCK - at % BLOCK) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        piece = data[at + 7 : at + 7 + length]
        if kind not in (1, 2, 3, 4) or len(piece) < length:
            return
        whole, at = whole + piece, at + 7 + length
        if kind in (1, 4):
            try:
                yield Record.FromString(whole)
            except DecodeError:
                return
            whole = b""
