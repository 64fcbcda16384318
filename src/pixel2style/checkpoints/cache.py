"""The folder of files that were fetched, and the memory of which of them are whole.

A file's digest is computed once and noted with its size and time of change; as long as these two stay the same it is
not read again. That finds accidents; whoever can write to this folder can also write to the notes, and to this program.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..files import cache_folder

CHUNK = 1 << 20


def offline() -> bool:
    """Whether the environment forbids downloads: ``PIXEL2STYLE_OFFLINE`` or ``HF_HUB_OFFLINE``."""
    asked = (os.environ.get(name, "") for name in ("PIXEL2STYLE_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.strip().lower() in ("1", "true", "yes", "on") for value in asked)


def key(text: str) -> str:
    """A name for a file of the cache that says nothing of ``text``."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def note(file: Path, values: dict[str, Any]) -> None:
    """Write a small file of JSON, whole or not at all. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(values), encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def noted(file: Path) -> dict[str, Any]:
    """What ``note`` wrote; empty where there is nothing, or it is damaged."""
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def is_whole(file: Path, digest: str) -> bool:
    """Whether ``file`` has the digest: a SHA-256 (64 hexadecimal digits), or the SHA-1 that Git gives a blob (40)."""
    place = cache_folder() / "verified" / f"{key(str(file.absolute()))}.json"
    try:
        state = file.stat()
        now = {"digest": digest, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
        if noted(place) == now:
            return True
        if digest_of(file, "sha256" if len(digest) == 64 else "sha1") != digest:
            return False
    except OSError:
        return False
    remember(file, digest)
    return True


def remember(file: Path, digest: str) -> None:
    """Note that ``file`` was found to have ``digest``; without a place to note it, it will be computed again."""
    state = file.stat()
    place = cache_folder() / "verified" / f"{key(str(file.absolute()))}.json"
    with contextlib.suppress(OSError):
        note(place, {"digest": digest, "size": state.st_size, "mtime_ns": state.st_mtime_ns})


def digest_of(file: Path, kind: str = "sha256") -> str:
    """The SHA-256 of a file, or the SHA-1 of a Git blob, which begins with its length. Raises OSError."""
    digest = hashlib.new(kind, usedforsecurity=kind != "sha1")
    if kind == "sha1":
        digest.update(f"blob {file.stat().st_size}\0".encode())
    with file.open("rb") as content:
        while block := content.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
