"""The bundled model and what it makes of the example, once in a process, for tests that change neither."""

import functools

import torch
from PIL import Image

from pixel2style import images
from pixel2style.faces.align import FaceAligner
from pixel2style.inference.session import Result, Session
from tests.support.paths import ASTRONAUT


@functools.cache
def session(name: str = "faces") -> Session:
    """A session of a bundled model."""
    return Session(name, "cpu")


@functools.cache
def face(size: int = 256) -> Image.Image:
    """The example's face, aligned."""
    return FaceAligner().align(images.load(ASTRONAUT), size)


@functools.cache
def inverted() -> Result:
    """The example, inverted as users do."""
    with torch.inference_mode(False):
        return session().invert(images.load(ASTRONAUT))
