"""Which photographs were meant, and what their results are called.

The one place that turns words from a command line (files, folders, patterns) into a list of photographs with names.
A name is what results and latents carry: the path below the folder that was given, without its suffix, with ``/``.
This module never opens a picture.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ImageError

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What counts as a picture when a folder is searched. A file that is named outright may be called anything."""


@dataclass(frozen=True)
class Photo:
    """A file that should be a photograph, and the name that its results carry."""

    path: Path
    name: str
    root: Path
    """The folder that ``name`` is relative to."""


def find(words: Sequence[str], leave_out: Path | None = None) -> list[Photo]:
    """The photographs that ``words`` (files, folders, patterns like ``shots/*.jpg``) mean, each once.

    Folders are searched to the bottom for files with a picture's suffix, hidden ones left out, in sorted order; what
    lies in ``leave_out`` (the folder for results) is not searched. A file that does not exist is kept, so that it
    fails on its own and the others are done. Raises ImageError when there is nothing to do at all.
    """
    if not words:
        raise ImageError("no photograph was given: name at least one file or folder")
    without = leave_out.resolve() if leave_out else None
    found: dict[Path, Photo] = {}
    for word in words:
        for photo in _meant_by(word, without):
            found.setdefault(photo.path.resolve(), photo)
    if not found:
        raise ImageError(f"no picture was found in {', '.join(words)}: looked for {', '.join(sorted(SUFFIXES))}")
    return _told_apart(list(found.values()))


def _meant_by(word: str, without: Path | None) -> Iterable[Photo]:
    path = Path(word)
    if path.is_dir():
        yield from (_photo(file, path) for file in below(path, without))
    elif glob.has_magic(word) and not path.exists():
        steady = Path(*_steady_part(path))
        for match in sorted(map(Path, glob.glob(word, recursive=True))):  # noqa: PTH207 (Path.glob takes no absolute pattern)
            if match.is_file() and match.suffix.lower() in SUFFIXES:
                yield _photo(match, steady)
    else:
        yield _photo(path, path.parent)


def _steady_part(pattern: Path) -> Iterable[str]:
    """The folders before the first one with a wildcard, so that matches keep their structure below it."""
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def below(folder: Path, without: Path | None = None) -> Iterable[Path]:
    """Files with a picture's suffix in a folder and to its bottom, hidden ones and ``without`` left out, in order."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (here / name).resolve() != without)
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield here / name


def _photo(path: Path, root: Path) -> Photo:
    return Photo(path, path.relative_to(root).with_suffix("").as_posix(), root)


def _told_apart(photos: list[Photo]) -> list[Photo]:
    """Give photographs of one name longer ones: first more of their folders, then their suffix."""
    if shared := _shared_names(photos):
        top = Path(os.path.commonpath([photo.root.resolve() for photo in photos]))
        clashing = [photo for photo in photos if photo.name in shared]
        if len({photo.root.resolve() for photo in clashing}) > 1:
            photos = [_photo(p.path.resolve(), top) if p.name in shared else p for p in photos]
    shared = _shared_names(photos)
    return [replace(p, name=p.name + p.path.suffix) if p.name in shared else p for p in photos]


def _shared_names(photos: Iterable[Photo]) -> set[str]:
    return {name for name, count in Counter(photo.name for photo in photos).items() if count > 1}
