"""Several photographs in one figure: grids of mixtures, and faces that become each other.

Each photograph is inverted once; of the pictures only tiles stay in memory.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import images
from ..editing.latents import parse_rows
from ..errors import ConfigError, Pixel2StyleError
from ..faces.align import Choice
from ..files import claim
from ..photos import Photo
from . import edit, prepare
from .folder import Outcome, Outcomes
from .session import Result, Session

TILE, MOST_TILES = 256, 30
"""Width of tiles, in pixels, and how many there are at most across and down."""


def grid_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    others: Sequence[str],
    *,
    rows: str = "fine",
    alpha: float = 1.0,
    align: bool = True,
    face: Choice | None = None,
    overwrite: bool = False,
) -> Outcomes:
    """All mixtures of photographs (down) with the rows of ``others`` (across) as one picture, ``grid.png``.

    As in StyleGAN's figure of style mixing: photographs in the first column, others in the first row, tiles of
    ``TILE`` pixels. One outcome for each photograph; the last one that could be used has the file. Raises as
    ``mix_into`` does, and ConfigError for more than ``MOST_TILES`` tiles across or down.
    """
    sources = [Path(word) for word in others]
    if max(len(photos), len(sources)) >= MOST_TILES:
        raise ConfigError(f"--grid has up to {MOST_TILES - 1} photographs and as many others: leave some out")
    prepare.check_alpha(alpha)
    file = out / "grid.png"
    claim(out, [file], [*(photo.path for photo in photos), *sources], overwrite)
    parse_rows(rows, session.model.generator.rows)
    others_ws, first = list[Tensor](), list[Image.Image]()
    for source in sources:
        other = session.invert(source, align)
        others_ws.append(other.ws)
        first.append(_tile(other.reconstruction))
    tiles = [Image.new("RGB", first[0].size, "white"), *first]
    weights, last = [1.0], None
    for photo, result in session.invert_many(photos, align, face=face):
        if isinstance(result, Pixel2StyleError):
            yield Outcome(photo, error=result)
            continue
        if last is not None:
            yield last
        steps = torch.stack([edit.mixed(result.ws, other[None], weights, rows, alpha) for other in others_ws])
        mixtures = session.edit(result, result.ws, steps).samples
        tiles += [_tile(picture) for picture in (result.reconstruction, *mixtures)]
        last = Outcome(photo, far=result.far, notes=result.notes)
    if last is not None:
        images.save(images.grid(tiles, len(others_ws) + 1), file)
        yield replace(last, files={"grid": file})


def _tile(picture: Image.Image) -> Image.Image:
    return picture.resize((TILE, round(TILE * picture.height / picture.width)), Image.Resampling.LANCZOS)


def morph_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    *,
    steps: int = 7,
    gif: bool = False,
    align: bool = True,
    face: Choice | None = None,
    overwrite: bool = False,
) -> Outcomes:
    """Faces that become each other: ``steps`` pictures from each photograph to the next, ``morph.png``, a line each.

    With ``gif`` also ``morph.gif``, with twice as many. One outcome for each photograph; the last one has the files.
    Raises ConfigError for fewer than two photographs, and what ``invert_into`` raises.
    """
    if len(photos) < 2:
        raise ConfigError("a morph leads from one face to another: name at least two photographs, or --face all")
    edit.check_steps(steps, "steps")
    files = {"morph": out / "morph.png"} | ({"gif": out / "morph.gif"} if gif else {})
    claim(out, list(files.values()), [photo.path for photo in photos], overwrite)
    every, strips = 2 if gif else 1, list[list[Image.Image]]()
    before: Result | None = None
    last: Outcome | None = None
    for photo, result in session.invert_many(photos, align, face=face):
        if isinstance(result, Pixel2StyleError):
            yield Outcome(photo, error=result)
            continue
        if last is not None:
            yield last
        if before is not None:
            strips.append([_tile(one) for one in session.morph(before, result, every * (steps - 1) + 1)])
        before, last = result, Outcome(photo, far=result.far, notes=result.notes)
    if last is None or not strips:
        raise ConfigError("a morph leads from one face to another, and fewer than two photographs show one")
    images.save(images.grid([one for strip in strips for one in strip[::every]], steps), files["morph"])
    if gif:
        frames = strips[0] + [one for strip in strips[1:] for one in strip[1:]]
        images.save_animation(frames, files["gif"], 1.5 * len(strips))
    yield replace(last, files=files)
