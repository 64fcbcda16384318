"""Drawings: label maps and sketches of photographs, as files that ``translate`` reads, and those that a page sends."""

import base64
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from .. import images
from ..errors import ImageError
from ..faces.align import Choice
from ..metrics import parsing
from ..photos import Photo
from ..tasks import pencils
from .folder import Draw, Outcomes, cut_into
from .session import Session

MOST_TEXT = 4_000_000
"""Characters of a drawing that is sent as text."""


def parse_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    *,
    size: int = 512,
    align: bool = True,
    face: Choice | None = None,
    overwrite: bool = False,
) -> Outcomes:
    """Write the label map of the face in each photograph, ``NAME.png``, ``size`` pixels wide; one outcome each.

    Maps are palette pictures: numbers are ``metrics.parsing.CLASSES``, colours its ``PALETTE``. When aligned,
    ``NAME.aligned.png`` is the face itself. Raises ConfigError, and OutputError before any work, see ``files.claim``.
    """
    kinds = _kinds(label_map, align)
    yield from cut_into(out, photos, session, kinds, size=size, align=align, face=face, overwrite=overwrite)


def sketch_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    style: pencils.Style = "lines",
    *,
    width: float = 1.0,
    size: int = 1024,
    align: bool = True,
    face: Choice | None = None,
    overwrite: bool = False,
) -> Outcomes:
    """Write a sketch of the face in each photograph as ``parse_into`` writes its label map.

    Sketches are gray, dark on white. ``width`` is that of a line, in pixels of a picture of 256.
    """
    kinds = _kinds(partial(sketched, pen=pencils.Pen(style, width)), align)
    yield from cut_into(out, photos, session, kinds, size=size, align=align, face=face, overwrite=overwrite)


def label_map(face: Image.Image) -> Image.Image:
    """The palette picture of a face's regions."""
    return parsing.picture(parsing.regions(images.to_tensor(face)[None])[0])


def sketched(face: Image.Image, pen: pencils.Pen) -> Image.Image:
    """The gray picture of a face that ``pen`` draws."""
    with torch.no_grad():
        drawn = pencils.draw(images.to_tensor(face), pen)
    return images.to_picture(drawn.expand(3, -1, -1) * 2 - 1).convert("L")


def from_text(text: str | None) -> Image.Image:
    """The picture of a ``data:`` address as pages send it, RGBA. Raises ImageError where it is empty or damaged."""
    content = (text or "").partition("base64,")[2]
    if not content:
        raise ImageError("nothing is drawn: draw on the canvas first")
    if len(content) > MOST_TEXT:
        raise ImageError("the drawing is too large: clear the canvas")
    try:
        found = images.opened(base64.b64decode(content, validate=True))
    except ValueError:
        raise ImageError("the drawing is damaged: clear the canvas") from None
    assert isinstance(found, Image.Image)  # bytes are no path
    return found.convert("RGBA")


def to_text(picture: Image.Image, kind: str = "PNG") -> str:
    """A picture as a ``data:`` address."""
    content = io.BytesIO()
    picture.save(content, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"


def _kinds(draw: Draw, align: bool) -> dict[str, tuple[str, Draw | None]]:
    return {"drawing": (".png", draw)} | ({"aligned": (".aligned.png", None)} if align else {})
