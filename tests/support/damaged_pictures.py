"""Damaged pictures: a recipe that makes the same ones from a seed, of every format that is read.

As a command it opens many of them and prints what happened, for a test that limits time and memory:

    python -m tests.support.damaged_pictures 1000
"""

import io
import json
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from pixel2style import images
from pixel2style.errors import ImageError

SIDES = (64, 48)


@cache
def sound() -> dict[str, bytes]:
    """Small pictures of every format and of unusual kinds, by name."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 255, (*SIDES, 3), np.uint8))
    smooth = Image.fromarray(np.linspace(0, 255, SIDES[0] * SIDES[1] * 3).reshape(*SIDES, 3).astype(np.uint8))
    kinds: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "png": (colour, "PNG", {}),
        "palette": (smooth.quantize(16), "PNG", {"transparency": 3}),
        "sixteen": (Image.fromarray(rng.integers(0, 65535, SIDES, np.uint16)), "PNG", {}),
        "jpeg": (smooth, "JPEG", {"quality": 90}),
        "progressive": (smooth, "JPEG", {"progressive": True}),
        "cmyk": (smooth.convert("CMYK"), "JPEG", {}),
        "webp": (smooth, "WEBP", {}),
        "lossless": (colour.convert("RGBA"), "WEBP", {"lossless": True}),
        "bmp": (smooth, "BMP", {}),
        "tiff": (smooth, "TIFF", {}),
        "lzw": (smooth, "TIFF", {"compression": "tiff_lzw"}),
        "float": (Image.fromarray(rng.random(SIDES, np.float32)), "TIFF", {}),
        "gif": (smooth.quantize(32), "GIF", {"save_all": True, "append_images": [colour.quantize(8)]}),
        "ppm": (smooth, "PPM", {}),
    }
    made = {}
    for name, (picture, kind, options) in kinds.items():
        content = io.BytesIO()
        picture.save(content, kind, **options)
        made[name] = content.getvalue()
    return made


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _head(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 2, 8])):
        data[rng.randrange(min(len(data), 64))] = rng.randrange(256)


def _zero(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start : start + rng.randrange(1, 200)] = bytes(rng.randrange(1, 200))


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 300)] * rng.choice([1, 50])


def _number(data: bytearray, rng: random.Random) -> None:
    """A size, an offset or a count becomes a huge one."""
    start = rng.randrange(max(1, min(len(data) - 4, 120)))
    value = rng.choice([0xFFFFFFFF, 0x7FFFFFFF, 0x00010000, 0])
    data[start : start + 4] = struct.pack(rng.choice("<>") + "I", value)


def _swap(data: bytearray, rng: random.Random) -> None:
    """The beginning of one format, the rest of another."""
    other = rng.choice(list(sound().values()))
    cut = rng.randrange(1, min(len(data), len(other)))
    data[:cut] = other[:cut]


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _cut, _flip, _head, _zero, _repeat, _number, _swap,
)  # fmt: skip


def damaged(number: int) -> tuple[str, bytes]:
    """The picture of this number: a name and its bytes."""
    rng = random.Random(number)
    name = rng.choice(sorted(sound()))
    data = bytearray(sound()[name])
    damages = [rng.choice(DAMAGES) for _ in range(rng.choice([1, 1, 2]))]
    for damage in damages:
        if len(data) > 1:
            damage(data, rng)
    return f"{number}-{name}-{'-'.join(damage.__name__[1:] for damage in damages)}", bytes(data)


def outcome(number: int) -> str:
    """ "read" or "refused". Any other error than ImageError passes."""
    name, data = damaged(number)
    try:
        picture = images.from_bytes(data, name)
    except ImageError as error:
        assert "\n" not in str(error)
        return "refused"
    assert picture.mode == "RGB" and min(picture.size) > 0
    return "read"


def main(count: int) -> None:
    counts: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        start = time.monotonic()
        counts[outcome(number)] += 1
        slowest = max(slowest, time.monotonic() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**counts, "slowest": slowest, "peak_gb": peak}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
