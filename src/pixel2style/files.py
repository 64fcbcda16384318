"""Files that the package writes: whole or not at all, claimed before any work is done."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import NoRoomError, OutputError

ROOM = 2**20
"""Bytes; a disk with fewer is full."""


def cache_folder() -> Path:
    """Where downloads lie: ``$PIXEL2STYLE_CACHE``, else ``pixel2style`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("PIXEL2STYLE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixel2style"


def resolved(path: Path) -> Path:
    """The path without links; of a link that leads back to itself, as far as it goes (``Path.resolve`` raises)."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; when the block ends, what was written there replaces ``path``.

    After an error nothing of it is left and ``path`` is as it was. The file has the permissions of any new file there.
    ``durable`` also waits until the disk has it, for files that a power cut must not cost. Raises OutputError where
    the block or the replacement raises OSError.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with writing(path):
            part.touch()
            permissions = part.stat().st_mode  # some writers (safetensors) make files that only their owner can read
            yield part
            part.chmod(permissions)
            if durable:
                with part.open("rb+") as written:
                    os.fsync(written.fileno())
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that says that ``path`` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        kind = NoRoomError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else OutputError
        raise kind(f"{path}: cannot be written ({reason(error)}); choose a folder that exists and has room") from error


@contextlib.contextmanager
def locked(path: Path, busy: str = "") -> Iterator[None]:
    """Be the only process of this machine in such a block for ``path``; wait for others, or refuse.

    Refuses with the sentence ``busy`` where there is one. The lock is in the cache folder, not beside ``path``: a lock
    must not be removed. Raises OutputError.
    """
    from filelock import FileLock, Timeout

    name = hashlib.sha256(str(resolved(path)).encode(errors="surrogateescape")).hexdigest()
    folder = cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir())
    lock = FileLock(folder / f"{name[:32]}.lock")
    with writing(folder):
        try:
            lock.acquire(timeout=0 if busy else -1)
        except Timeout as error:
            raise OutputError(busy) from error
    try:
        yield
    finally:
        lock.release()


def system_error(path: Path, error: Exception) -> OSError:
    """What a library's own error in writing ``path`` means: that the disk is full, or else its first line."""
    if shutil.disk_usage(path.parent).free < ROOM:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OSError(errno.EIO, str(error).partition("\n")[0])


def reason(error: OSError) -> str:
    """Why the system refused, in lower case and without a path."""
    return (error.strerror or str(error)).partition("\n")[0].lower()


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a whole file or nothing. Raises OutputError."""
    with replacing(path, durable=durable) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, whole or not at all; names that are not text are written with backslashes. Raises OutputError."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all. Raises OutputError."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder for results, with its parents. Raises OutputError where it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {reason(error)}; choose another --out") from error


def claim(out: Path, files: Sequence[Path], sources: Iterable[Path], overwrite: bool, others: str = "") -> None:
    """Make ``out`` and make sure that ``files`` can be written there, before any work is done.

    ``others`` is what the sentence of the last error below offers besides --overwrite. Raises OutputError when ``out``
    cannot be a folder or cannot be written to, when two results would have one name, when a result would replace one of
    ``sources``, when the name of one is too long, and, unless ``overwrite``, when one exists already.
    """
    make_folder(out)
    for file, count in Counter(files).items():
        if count > 1:
            raise OutputError(f"two results would be called {file}: rename one photograph, or run them separately")
    present = [file for file in files if _exists(file)]
    originals = {resolved(source) for source in sources}
    for file in present:
        if resolved(file) in originals:
            raise OutputError(f"{file} is one of the photographs and would be replaced: choose another --out")
        if file.is_dir():
            raise OutputError(f"{file} is a folder where a result should go: choose another --out")
    if present and not overwrite:
        more = f" (and {len(present) - 1} more)" if len(present) > 1 else ""
        raise OutputError(
            f"{present[0]}{more} exists already: add {others}--overwrite to replace, or choose another --out"
        )


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:
        raise OutputError(f"{file} cannot be the name of a file: {reason(error)}; choose another") from error
