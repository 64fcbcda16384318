"""One file over HTTP into a partial file that survives whatever ends the process, so that the next attempt goes on.

This module does not know what the file is, whether it is the right one, nor where it is kept.
"""

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, OutputError
from .addresses import check, opener, quoted, shown

LARGEST = 8 << 30
"""No file of weights that we know is larger than this, in bytes."""
SPARE = 64 << 20
"""Bytes of the disk that a download leaves free."""
TRIES, PAUSE = 5, 0.5
"""Attempts when connections break, and seconds before the second; each later pause is twice as long."""
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
CHUNK = 1 << 20

_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""What a server answers that may do better in a moment."""


class _BrokenError(Exception):
    """The connection is at fault, not the file: worth another attempt."""


def download(url: str, part: Path) -> str:
    """Bring ``url`` into ``part``, going on where an earlier attempt ended; the SHA-256 of the whole.

    Raises CheckpointError when the address, the server or its answer is at fault, OutputError when there is no room.
    """
    check(url)
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _attempt(url, part)
        except _BrokenError as error:
            reason = str(error)
    raise CheckpointError(
        f"{shown(url)}: {TRIES} attempts failed ({reason}); the same command goes on where this one stopped"
    )


def _attempt(url: str, part: Path) -> str:
    """One connection's worth. Raises _BrokenError where another may go on."""
    told = _told(part)
    have = part.stat().st_size if told and part.exists() else 0
    if have and have == told.get("total"):
        return _digest(part, have).hexdigest()
    headers = {"User-Agent": "pixel2style", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": told["validator"]}
    with _answered(url, headers, part) as response:
        start, total = _extent(response, have)
        _make_room(url, part, start, total)
        if not start:
            _tell(part, response.headers, total)
        return _stream(url, response, part, start, total)


@contextlib.contextmanager
def _answered(url: str, headers: Mapping[str, str], part: Path) -> Iterator[Any]:
    """The server's answer, when it is one that brings the file."""
    try:
        response = opener(url).open(urllib.request.Request(quoted(url), headers=dict(headers)), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing after what there is: it was another file
            forget(part)
        if error.code in _AGAIN or (error.code == 416 and "Range" in headers):
            raise _BrokenError(f"the server answers {error.code}") from None
        where = "leads to where we do not follow" if 300 <= error.code < 400 else f"the server answers {error.code}"
        raise CheckpointError(f"{shown(url)}: {where}; check the address") from None
    except (http.client.InvalidURL, ValueError) as error:
        raise CheckpointError(f"{shown(url)}: is no address that can be asked for; check it") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise CheckpointError(f"{shown(url)}: the server cannot prove who it is; use another address") from error
        raise _BrokenError(str(reason) or type(reason).__name__) from error
    with response:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise CheckpointError(f"{shown(url)}: comes compressed on the way; use an address of the file itself")
        yield response


def _extent(response: Any, have: int) -> tuple[int, int | None]:
    """Where the bytes that come belong, and how many the whole file has, where the server says."""
    try:
        if response.status == 206:
            unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
            span, _, total = extent.partition("/")
            if unit != "bytes" or int(span.partition("-")[0]) != have:
                raise ValueError
            return have, int(total) if total != "*" else None
        length = response.headers.get("Content-Length")
        return 0, int(length) if length is not None else None
    except ValueError:
        raise _BrokenError("the server sent another part than the one it was asked for") from None


def _make_room(url: str, part: Path, start: int, total: int | None) -> None:
    if total is not None and total > LARGEST:
        raise _too_large(url)
    free = shutil.disk_usage(part.parent).free
    needed = (total or start) - start + SPARE
    if free < needed:
        raise OutputError(
            f"{shown(url)}: needs {needed / 1e9:.2f} GB where {free / 1e9:.2f} GB are free; make room in {part.parent} "
            "or set PIXEL2STYLE_CACHE to another folder"
        )


def _too_large(url: str) -> CheckpointError:
    return CheckpointError(f"{shown(url)}: is larger than {LARGEST >> 30} GiB, as no model is; check the address")


def _stream(url: str, response: Any, part: Path, start: int, total: int | None) -> str:
    """Append what comes to the first ``start`` bytes of ``part``; the SHA-256 of all of it."""
    digest, got = _digest(part, start), start
    with writing(part):
        if start:
            os.truncate(part, start)
        file = part.open("ab" if start else "wb")
    with file, _progress(url, start, total) as advance:
        while block := _block(response):
            got += len(block)
            if got > LARGEST or (total is not None and got > total):
                file.close()
                forget(part)
                raise _too_large(url)
            with writing(part):
                file.write(block)
                file.flush()  # whatever ends this process, what came is kept
            digest.update(block)
            advance(len(block))
    if total is not None and got < total:
        raise _BrokenError(f"the connection ended after {got} of {total} bytes")
    return digest.hexdigest()


def _block(response: Any) -> bytes:
    """Some bytes; none at the end."""
    try:
        block: bytes = response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"the connection broke: {error}") from error
    return block


def _digest(file: Path, size: int) -> "hashlib._Hash":
    """The SHA-256 of the first ``size`` bytes, to go on with."""
    digest = hashlib.sha256()
    if size:
        with file.open("rb") as content:
            while size and (block := content.read(min(size, CHUNK))):
                digest.update(block)
                size -= len(block)
    return digest


def _notes(part: Path) -> Path:
    return part.with_suffix(".json")


def _told(part: Path) -> dict[str, Any]:
    """What the server said of the file whose beginning ``part`` is; empty where it cannot be gone on with."""
    try:
        told = json.loads(_notes(part).read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) and isinstance(told.get("validator"), str) else {}


def _tell(part: Path, headers: Any, total: int | None) -> None:
    """Note what tells this file from a later one of the same address; nothing, where the server does not say."""
    tag = headers.get("ETag", "")
    validator = tag if tag.startswith('"') else headers.get("Last-Modified")
    with writing(part):
        part.unlink(missing_ok=True)  # never another file's bytes under these notes
        _notes(part).write_text(json.dumps({"validator": validator, "total": total}), encoding="utf-8")


def forget(part: Path) -> None:
    """Remove a partial file and what is noted of it."""
    with writing(part):
        part.unlink(missing_ok=True)
        _notes(part).unlink(missing_ok=True)


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """OutputError for what goes wrong with files of the cache."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{file}: cannot be written ({error.strerror}); make room, or set PIXEL2STYLE_CACHE to another folder"
        ) from error


@contextlib.contextmanager
def _progress(url: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}", markup=False), progress.BarColumn(), progress.DownloadColumn(),
        progress.TransferSpeedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(shown(url).rpartition("/")[2], total=total, completed=start)
        yield lambda count: bar.advance(task, count)
