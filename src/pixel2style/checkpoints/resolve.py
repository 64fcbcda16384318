"""From what a user gives to a file on this machine: a bundled name, a path, an address or a place on the hub."""

import difflib
import os
import re
import urllib.parse
from pathlib import Path
from typing import Any

from .. import assets
from ..assets import cards
from ..errors import CheckpointError
from .download import MODEL, SUFFIXES, from_hub, from_url, no_model, shown

_HUB = re.compile(
    r"(?P<repo>[a-z0-9][\w.-]*/[a-z0-9][\w.-]*)(?:@(?P<revision>[\w.%-]+))?(?:/(?P<file>.+))?", re.A | re.I
)
_DIGEST = re.compile(r"sha256=([0-9a-f]{64})", re.I)


def find(source: str | Path) -> Path:
    """The model file that ``source`` means, downloaded where necessary; ``local`` says which forms it may have.

    A bundled name comes first. Raises CheckpointError where there is no such file, and as ``local`` does.
    """
    if not source or not isinstance(source, str | os.PathLike):
        what = repr(source) if isinstance(source, str | None) else f"a {type(source).__name__}"
        raise CheckpointError(f"{what} is no model: give its path, its address or a bundled name; {_bundled()}")
    if isinstance(source, str) and source in assets.names():
        if cards.role(assets.path(source)) == "part":
            raise CheckpointError(f"{source}: is a network for losses or face alignment, not a model; {_bundled()}")
        return assets.path(source)
    path = local(source)
    if not path.is_file():
        near = difflib.get_close_matches(str(source), assets.names(), 1)
        meant = f"did you mean {near[0]}? Otherwise {_bundled()}" if near else _bundled()
        raise CheckpointError(f"{source}: there is no such file; {meant}, and one on the hub is hf://USER/REPO")
    return path


def _bundled() -> str:
    names = [name for name in assets.names() if cards.role(assets.path(name)) != "part"]
    return f"the bundled ones are {', '.join(names)}"


def local(source: str | Path, *, trust: bool = False, **options: Any) -> Path:
    """The file on this machine that a path, an address or a place on the hub means, downloaded where necessary.

    ``https://HOST/FILE#sha256=...``, ``hf://USER/REPO[@REVISION][/FILE]`` or the same without ``hf://`` where no such
    file or folder exists here. A folder or a repository means the ``model.safetensors`` in it. Anything else is
    returned as a path, whether the file exists or not. ``trust`` accepts what an address gives and records its digest;
    ``options`` are those of ``from_hub``.

    Raises CheckpointError when the file cannot be had or is not the one meant, OutputError when there is no room.
    """
    if isinstance(source, Path) or os.path.exists(source):  # noqa: PTH110 (an address may be too long for a path)
        return _in_folder(Path(source))
    address, _, fragment = source.partition("#")
    scheme, colon, rest = address.partition("://")
    if not colon and not _is_on_hub(address):
        return Path(source)
    digest = _stated_digest(source, fragment) if fragment else None
    if scheme.lower() != "hf" and colon:
        return from_url(address, digest, trust=trust)
    found = _HUB.fullmatch(rest if colon else address)
    if not found:
        raise CheckpointError(
            f"{ascii(source)[1:-1]}: is no place on the hub; give hf://USER/REPO or hf://USER/REPO/FILE"
        )
    revision = found["revision"] and urllib.parse.unquote(found["revision"])
    given = {name: value for name, value in options.items() if value is not None}
    return from_hub(found["repo"], found["file"] or MODEL, digest=digest, **{"revision": revision, **given})


def _in_folder(path: Path) -> Path:
    """``path``, or the model in it where it is a folder. Raises CheckpointError for a folder without one."""
    try:
        names = os.listdir(path)  # noqa: PTH208 (for anything that is no folder this is an OSError, long names included)
    except (OSError, ValueError):
        return path
    if MODEL in names:
        return path / MODEL
    raise no_model(str(path), names, f"{path}{os.sep}")


def _stated_digest(source: str, fragment: str) -> str:
    found = _DIGEST.fullmatch(fragment)
    if not found:
        raise CheckpointError(f"{shown(source)}: what follows # must be sha256= and 64 hexadecimal digits")
    return found[1].lower()


def _is_on_hub(text: str) -> bool:
    """Whether a source without ``hf://`` means the hub: two names or more, of which the first is no folder here."""
    found = _HUB.fullmatch(text)
    if not found or Path(text.partition("/")[0]).exists():
        return False
    return found["file"] is not None or not found["repo"].endswith(SUFFIXES)
