"""Inputs of the converters: files of pinned versions, checked by their SHA-256."""

import hashlib
from pathlib import Path


def verified(file: Path, sha256: str, version: str) -> bytes:
    """The content of ``file``. Exits with a message when it is not ``version``, by its SHA-256."""
    content = file.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise SystemExit(f"{file} is not {version}: its SHA-256 is {found}, expected {sha256}")
    return content
