"""The pictures of the gallery: free photographs, difficult ones made from them, and faces drawn by the generator.

Every name is a row of a sheet. Free photographs of children, of dark skin in colour and of old age in faded print were
not found; their replacements are labelled ``made`` and ``drawn``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from pixel2style import images
from sheets import drawn_faces

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Picture:
    """A row: ``words`` are above it; ``align``: detect and crop the face."""

    words: str
    open: Callable[[], Image.Image]
    align: bool = True


def photograph(file: str) -> Image.Image:
    """A file of ``examples/``, upright, RGB."""
    return images.load(EXAMPLES / file)


def faded(photo: Image.Image) -> Image.Image:
    """As an old print: brown, pale, soft, grainy, scratched and spotted."""
    rng = np.random.default_rng(7)
    soft = ImageOps.grayscale(photo).filter(ImageFilter.GaussianBlur(0.9))
    grain = rng.normal(0, 14, (photo.height, photo.width))
    level = np.clip(np.asarray(soft) * 0.62 + 62 + grain, 0, 255).astype(np.uint8)
    brown = ImageOps.colorize(Image.fromarray(level), (38, 24, 12), (246, 228, 190))
    pen = ImageDraw.Draw(brown)
    for _ in range(14):
        x, y, dx, dy = rng.uniform((0, 0, -12, -60), (photo.width, photo.height, 12, 60))
        pen.line((x, y, x + dx, y + dy), fill=(250, 240, 215))
    for _ in range(40):
        x, y, r = rng.uniform((0, 0, 0.5), (photo.width, photo.height, 2.0))
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(250, 240, 215))
    return brown


def dim(photo: Image.Image) -> Image.Image:
    """As in a dark room: an eighth of the light, with the noise of a telephone's sensor."""
    light = (np.asarray(photo) / 255) ** 2.2 / 8
    noisy = light + np.random.default_rng(3).normal(0, 0.006, light.shape)
    return Image.fromarray((255 * np.clip(noisy, 0, 1) ** (1 / 2.2)).astype(np.uint8))


def masked(photo: Image.Image) -> Image.Image:
    """The astronaut behind a medical mask, drawn by hand."""
    worn = photo.copy()
    pen = ImageDraw.Draw(worn)
    outline = [(190, 124), (224, 113), (262, 126), (259, 150), (243, 170), (223, 176), (204, 168), (192, 148)]
    pen.line([(182, 112), (192, 130)], fill=(225, 232, 236), width=2)
    pen.line([(272, 114), (261, 132)], fill=(225, 232, 236), width=2)
    pen.polygon(outline, fill=(150, 190, 205))
    for down in (134, 146, 158):
        pen.line([(196, down), (225, down + 4), (255, down)], fill=(120, 165, 182), width=1)
    return worn


def drawn(seed: int, truncation: float) -> Callable[[], Image.Image]:
    """A face drawn by the bundled generator, 1024 pixels."""
    return lambda: images.to_picture(drawn_faces([seed], truncation)[0].clamp(-1, 1))


def _astronaut() -> Image.Image:
    return photograph("astronaut.png")


PICTURES = {
    "astronaut": Picture("photo", _astronaut),
    "hopper": Picture("photo: hat, glasses, age", lambda: photograph("gallery/hopper.jpg")),
    "coelho": Picture("photo: turned, hard light", lambda: photograph("gallery/coelho.jpg")),
    "camera": Picture("photo: profile, gray, small", lambda: photograph("gallery/camera.jpg")),
    "mona-lisa": Picture("painting, 1503", lambda: photograph("gallery/mona-lisa.jpg")),
    "faded": Picture("made: old print", lambda: faded(_astronaut())),
    "dim": Picture("made: dark room", lambda: dim(photograph("gallery/coelho.jpg"))),
    "masked": Picture("made: medical mask", lambda: masked(_astronaut())),
    "lying": Picture("made: lying on its side", lambda: _astronaut().rotate(90, expand=True)),
    "child": Picture("drawn: child", drawn(50, 0.9), align=False),
    "baby": Picture("drawn: baby, hat", drawn(53, 0.9), align=False),
    "dark-skin": Picture("drawn: dark skin", drawn(38, 0.9), align=False),
    "dark-skin-glasses": Picture("drawn: dark skin, glasses", drawn(2, 0.9), align=False),
    "hat": Picture("drawn: hat, dark background", drawn(97, 0.9), align=False),
    "sunglasses": Picture("drawn: sunglasses", drawn(106, 1.0), align=False),
    "turned": Picture("drawn: turned, curls", drawn(47, 0.9), align=False),
    "profile": Picture("drawn: profile, hand", drawn(141, 1.0), align=False),
    "old": Picture("drawn: old age, glasses", drawn(148, 1.0), align=False),
}
"""Words: "photo" is a free photograph, "made" is made from one here, "drawn" is drawn by the generator."""
