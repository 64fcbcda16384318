"""Command line arguments (files, folders, patterns) to a list of photographs with unique names.

The name of a photograph, which its results and latents get, is its path below the given folder, without the suffix and
with ``/``. No file is opened here, and no image library imported.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import ImageError
from .files import resolved

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
"""Formats that are read, by Pillow's names, and their suffixes."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Files that a folder is searched for. A file that is given by its name may have any suffix."""


@dataclass(frozen=True)
class Photo:
    """A file that should be a photograph, and the name of its results."""

    path: Path
    name: str
    root: Path
    """The folder that ``name`` is relative to."""
    landmarks: tuple[tuple[float, float], ...] | None = field(default=None, compare=False)
    """The five landmarks of the face that is meant, where it is known (``faces.align.Face``)."""
    turned: int = field(default=0, compare=False)
    """By how many degrees, counter-clockwise, the photograph has to be turned to show this face upright."""
    whole: str = field(default="", compare=False)
    """The name of results of the whole photograph, where ``name`` is that of one of its faces."""

    @property
    def whole_name(self) -> str:
        """The name of results of the whole photograph."""
        return self.whole or self.name


def find(words: Sequence[str], leave_out: Path | None = None, others: Counter[str] | None = None) -> list[Photo]:
    """The photographs in ``words`` (files, folders, patterns like ``shots/*.jpg``), each once.

    Folders are searched recursively and in sorted order for files with a suffix in ``SUFFIXES``, without hidden ones
    and without the folder ``leave_out`` (for results). A file that does not exist is in the result, so that it fails
    alone and the others are processed. ``others`` counts the files of folders that are no pictures, by suffix. Raises
    ImageError when nothing is found, and for an empty word.
    """
    if not words:
        raise ImageError("no photograph was given: name at least one file or folder")
    if not all(words):
        raise ImageError('an empty name was given: name a file or a folder ("." is the current one)')
    excluded = resolved(leave_out) if leave_out else None
    found: dict[Path, Photo] = {}
    for word in words:
        for photo in _expand(word, excluded, others):
            found.setdefault(resolved(photo.path), photo)
    if not found:
        raise ImageError(f"no picture was found in {', '.join(words)}: looked for {', '.join(sorted(SUFFIXES))}")
    return _with_unique_names(list(found.values()))


def listed(given: Iterable[Photo | str | os.PathLike[str]]) -> Iterator[Photo]:
    """Photographs that are given one by one; those given by their paths are called as their files.

    Raises ImageError for a single path, and for what is no path.
    """
    if isinstance(given, str | os.PathLike) or not isinstance(given, Iterable):
        raise ImageError(f"several photographs are expected, not {given!r:.60}: give a list of paths, or invert one")
    return map(_listed, given)


def _listed(one: Photo | str | os.PathLike[str]) -> Photo:
    if isinstance(one, Photo):
        return one
    if not isinstance(one, str | os.PathLike):
        raise ImageError(f"{type(one).__name__} is no path: give paths, or pictures one by one to invert")
    return _photo(Path(one), Path(one).parent)


def _expand(word: str, excluded: Path | None, others: Counter[str] | None) -> Iterable[Photo]:
    path = Path(word)
    if path.is_dir():
        yield from (_photo(file, path) for file in below(path, excluded, others))
    elif glob.has_magic(word) and not path.exists():
        root = Path(*_fixed_part(path))
        for match in sorted(map(Path, glob.glob(word, recursive=True))):  # noqa: PTH207 (Path.glob takes no absolute pattern)
            if match.is_file() and match.suffix.lower() in SUFFIXES:
                yield _photo(match, root)
    else:
        yield _photo(path, path.parent)


def _fixed_part(pattern: Path) -> Iterable[str]:
    """The folders before the first wildcard; names are relative to them."""
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def below(folder: Path, excluded: Path | None = None, others: Counter[str] | None = None) -> Iterable[Path]:
    """Files with a suffix in ``SUFFIXES`` in a folder and its subfolders, in order; no hidden and ``excluded`` ones.

    ``others`` counts the rest, by suffix.
    """
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and resolved(here / n) != excluded)
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and suffix in SUFFIXES:
                yield here / name
            elif not name.startswith(".") and others is not None:
                others[suffix or "without a suffix"] += 1


def _photo(path: Path, root: Path) -> Photo:
    return Photo(path, path.relative_to(root).with_suffix("").as_posix(), root)


def _with_unique_names(photos: list[Photo]) -> list[Photo]:
    """Extend names that occur twice: first by more of their folders, then by their suffix."""
    if shared := _shared_names(photos):
        top = Path(os.path.commonpath([resolved(photo.root) for photo in photos]))
        clashing = [photo for photo in photos if photo.name in shared]
        if len({resolved(photo.root) for photo in clashing}) > 1:
            photos = [_photo(resolved(p.path), top) if p.name in shared else p for p in photos]
    shared = _shared_names(photos)
    return [replace(p, name=p.name + p.path.suffix) if p.name in shared else p for p in photos]


def _shared_names(photos: Iterable[Photo]) -> set[str]:
    return {name for name, count in Counter(photo.name for photo in photos).items() if count > 1}
