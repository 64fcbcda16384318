"""A contact sheet: one page or one picture of everything that a run has made."""

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from PIL import Image

from .. import images
from ..errors import ConfigError, ImageError, OutputError
from ..files import claim, resolved, write_text
from .folder import Outcomes

PAGES = (".html", ".htm")
MOST = 400
"""Pictures on a sheet that is a picture; more would not fit into what ``images`` opens."""
TILE = (384, 192)
"""Width and height of a tile of such a sheet, in pixels."""


@dataclass(frozen=True)
class Tile:
    """A result on a sheet: its name, its picture and its pair, and words on how close it is."""

    name: str
    picture: Path
    pair: Path
    words: str = ""


def collected(
    outcomes: Outcomes, sheet: Path, overwrite: bool = False, sources: Sequence[Path] = (), total: int = 0
) -> Outcomes:
    """The outcomes, and at the end, also when the caller stops early, the sheet of all that have pictures.

    The suffix decides: a page (.html) that links to the files, or a picture of all pairs. Raises OutputError before any
    work when it exists already and ``overwrite`` is off, and where it is one of the ``sources``; ConfigError for
    another suffix, and for a picture of more than ``MOST`` results, of which there are ``total``. The outcomes raise
    OutputError where one of their files has the name of the sheet.
    """
    if sheet.suffix.lower() not in (*PAGES, *images.SUFFIXES):
        raise ConfigError(f"--sheet {sheet} has an unknown suffix: end it with .html or .jpg")
    _check_number(sheet, total)
    claim(sheet.parent, [sheet], sources, overwrite)
    return _collecting(outcomes, sheet)


def _collecting(outcomes: Outcomes, sheet: Path) -> Outcomes:
    tiles: list[Tile] = []
    try:
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                if outcome.files and not outcome.error:
                    own, close = outcome.files, outcome.fidelity
                    if resolved(sheet) in map(resolved, own.values()):
                        tiles.clear()  # the result stays
                        raise OutputError(f"--sheet {sheet} would replace a result: give it another name")
                    pair = own.get("pair", next(iter(own.values())))
                    words = f"LPIPS {close.lpips:.3f}" if close else ""
                    tiles.append(Tile(outcome.photo.name, own.get("reconstruction", pair), pair, words))
                yield outcome
    finally:
        if tiles:
            write(tiles, sheet)


def write(tiles: list[Tile], sheet: Path) -> None:
    """Write a sheet. Raises OutputError; ConfigError for more than ``MOST`` results on a picture."""
    if sheet.suffix.lower() in PAGES:
        loader = PackageLoader("pixel2style", "inference")
        page = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        links = [(tile, _link(tile.picture, sheet), _link(tile.pair, sheet)) for tile in tiles]
        write_text(sheet, page.get_template("sheet.html.jinja").render(tiles=links))
        return
    _check_number(sheet, len(tiles))
    images.save(images.grid([_small(tile.pair) for tile in tiles], math.ceil(math.sqrt(len(tiles) / 2))), sheet)


def _check_number(sheet: Path, total: int) -> None:
    if total > MOST and sheet.suffix.lower() not in PAGES:
        raise ConfigError(f"--sheet {sheet}: {total} results do not fit into one picture: end it with .html")


def _link(file: Path, sheet: Path) -> str:
    return quote(os.fsencode(Path(os.path.relpath(file, sheet.parent)).as_posix()))


def _small(file: Path) -> Image.Image:
    """The picture in a file, fitted into a tile; empty where it is gone."""
    tile = Image.new("RGB", TILE, "white")
    try:
        picture = images.load(file)
    except ImageError:
        return tile
    picture.thumbnail(TILE, Image.Resampling.LANCZOS)
    tile.paste(picture, ((TILE[0] - picture.width) // 2, (TILE[1] - picture.height) // 2))
    return tile
