"""``log.jsonl`` in the run's folder: one JSON object a line, and one sheet of pictures a JPEG."""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import files, images
from ...errors import ConfigError
from . import Row, sheet

LOG, PICTURES = "log.jsonl", "pictures"


class JsonLines:
    """Lines and sheets in ``folder``. Lines after ``step``, the state that the run continues from, are deleted."""

    def __init__(self, folder: Path, step: int):
        self._folder, self._step, self._log = folder, step, folder / LOG
        files.make_folder(folder)
        before = self._log.read_bytes() if self._log.exists() else b""
        # without a state the run starts anew
        kept = b"".join(line for line in before.splitlines(keepends=True) if step and _is_up_to(step, line))
        if kept != before:
            files.write_bytes(self._log, kept)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One line of ``values``."""
        self._write(step, values)

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """One JPEG of the first rows, and one line with the scores of all rows."""
        file = f"{PICTURES}/{name}-{step:08d}.jpg"
        images.save(sheet(rows), self._folder / file)
        scored = [{"name": row.name, **row.scores} for row in rows]
        self._write(step, {"pictures": name, "file": file, "columns": list(rows[0].pictures), "rows": scored})

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """One line of ``values`` under "summary"."""
        self._write(self._step, {"summary": dict(values)})

    def close(self, failed: bool = False) -> None:
        """Nothing: every line is written at once."""

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        self._step = max(self._step, step)
        line = json.dumps(finite({"step": step, **values}), allow_nan=False)
        with files.writing(self._log), self._log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def runs_in(folder: Path) -> list[str]:
    """The names of the runs in a folder, the newest first; "." is the folder itself."""
    logs = [log for pattern in (LOG, f"*/{LOG}") for log in folder.glob(pattern)]
    logs.sort(key=lambda log: log.stat().st_mtime, reverse=True)
    return [str(log.parent.relative_to(folder)) for log in logs]


def read(folder: Path) -> tuple[list[dict[str, Any]], list[Path]]:
    """What a run has logged so far: lines of numbers (with their "step"), and the sheets that exist, in order.

    A last line that is being written is left out. Raises ConfigError where the folder has no readable log.
    """
    try:
        content = (folder / LOG).read_bytes()
    except OSError as error:
        raise ConfigError(f"{folder} has no {LOG} that can be read: name the folder of a run") from error
    lines: list[dict[str, Any]] = []
    sheets: list[Path] = []
    for text in content.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and "file" in line:
                sheets.append(folder / PICTURES / Path(str(line["file"])).name)
            elif isinstance(line, dict) and "summary" not in line:
                lines.append(line)
    return lines, [sheet for sheet in sheets if sheet.is_file()]


def finite(value: Any) -> Any:
    """The same for JSON, which has no infinity and no NaN: they become null."""
    if isinstance(value, Mapping):
        return {str(name): finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_up_to(step: int, line: bytes) -> bool:
    """Whether a line is complete, and of ``step`` or an earlier one."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        return line.endswith(b"\n") and bool(json.loads(line).get("step", 0) <= step)
    return False
