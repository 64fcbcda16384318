"""Photographs as drawings: label maps and sketches of aligned faces, written as files that ``translate`` reads."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from .. import images
from ..config import DEFAULT_TASK
from ..errors import ConfigError, Pixel2StyleError
from ..faces.align import Choice
from ..files import claim
from ..metrics import parsing
from ..photos import Photo
from ..tasks import pencils
from ..tasks.request import Frame, Request
from . import prepare as preparation
from .folder import SIZES, Outcome, Outcomes
from .session import Session, named

Draw = Callable[[Image.Image], Image.Image]
"""From an aligned face to its drawing."""


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
    yield from _drawn(out, photos, session, label_map, size, align, face, overwrite)


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
    pen = pencils.Pen(style, width)
    yield from _drawn(out, photos, session, partial(sketched, pen=pen), size, align, face, overwrite)


def label_map(face: Image.Image) -> Image.Image:
    """The palette picture of a face's regions."""
    return parsing.picture(parsing.regions(images.to_tensor(face)[None])[0])


def sketched(face: Image.Image, pen: pencils.Pen) -> Image.Image:
    """The gray picture of a face that ``pen`` draws."""
    with torch.no_grad():
        drawn = pencils.draw(images.to_tensor(face), pen)
    return images.to_picture(drawn.expand(3, -1, -1) * 2 - 1).convert("L")


def _drawn(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    draw: Draw,
    size: int,
    align: bool,
    face: Choice | None,
    overwrite: bool,
) -> Outcomes:
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"--size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size}")
    if face is not None:
        preparation.check_face(Request(DEFAULT_TASK, align, face=face))
    ends = {"drawing": ".png"} | ({"aligned": ".aligned.png"} if align else {})
    files = {photo: {kind: out / f"{photo.name}{end}" for kind, end in ends.items()} for photo in photos}
    claim(out, [file for own in files.values() for file in own.values()], [photo.path for photo in photos], overwrite)
    for photo, own in files.items():
        try:
            picture = images.load(named(photo))
            frame, notes = Frame.middle(picture), tuple[str, ...]()
            if align:
                landmarks, notes = preparation.locate(picture, face, session.aligner, photo)
                frame = Frame.around(landmarks)
            cut = frame.cut(picture, size)
            images.save(draw(cut), own["drawing"])
            if align:
                images.save(cut, own["aligned"])
        except Pixel2StyleError as error:
            yield Outcome(photo, error=error)
        else:
            yield Outcome(photo, own, notes=notes)
