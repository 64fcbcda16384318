"""Draw the sketches and label maps of examples/drawings, by a program: python tools/draw_drawings.py

They stand for what somebody draws by hand: an outline with eyes and a mouth, and regions painted with a brush.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from pixel2style.metrics import parsing

FOLDER = Path(__file__).parents[1] / "examples" / "drawings"
SIDE, FINE = 512, 4
Point = tuple[float, float]


def oval(
    x: float, y: float, wide: float, high: float, start: float = 0, end: float = 360, turn: float = 0
) -> list[Point]:
    """Points of an ellipse's arc; degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / 60) for i in range(61)]
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    flat = [(wide * math.cos(angle), high * math.sin(angle)) for angle in angles]
    return [(x + a * cosine - b * sine, y + a * sine + b * cosine) for a, b in flat]


def curve(points: Sequence[Point]) -> list[Point]:
    """A smooth line through points (Catmull-Rom)."""
    ends = [points[0], *points, points[-1]]
    found = []
    for before, here, after, last in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for i in range(12):
            t = i / 12
            found.append(
                tuple(
                    0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t**2 + (3 * q - p - 3 * r + s) * t**3)
                    for p, q, r, s in zip(before, here, after, last, strict=True)
                )
            )
    return [*found, points[-1]]  # type: ignore[list-item]


def parts(smile: float, turn: float, long_hair: bool) -> dict[str, list[list[Point]]]:
    """The lines of a face, in pixels of 512: ``smile`` from 0 to 1, ``turn`` to the right of the picture, in pixels."""
    x = 256 + turn
    eyes = [(x - 62 - turn * 0.2, 246), (x + 62 - turn * 0.2, 246)]
    jaw = curve(
        [
            (150, 210),
            (152, 290),
            (178, 372),
            (226, 422),
            (256 + turn * 0.3, 432),
            (288, 422),
            (336, 372),
            (360, 290),
            (362, 210),
        ]
    )
    hair = (
        curve(
            [(140, 500), (104, 400), (110, 250), (140, 120), (256, 52), (372, 120), (402, 250), (408, 400), (372, 500)]
        )
        if long_hair
        else curve([(148, 262), (130, 190), (150, 110), (256, 62), (362, 110), (382, 190), (364, 262)])
    )
    fringe = curve([(150, 220), (176, 160), (240, 132), (300, 134), (346, 172), (362, 220)])
    mouth = curve(
        [
            (x - 52, 350 - 12 * smile),
            (x - 20, 356 + 8 * smile),
            (x, 358 + 10 * smile),
            (x + 20, 356 + 8 * smile),
            (x + 52, 350 - 12 * smile),
        ]
    )
    lower = curve([(x - 52, 350 - 12 * smile), (x, 378 + 12 * smile), (x + 52, 350 - 12 * smile)])
    nose = curve([(x - 4, 250), (x + turn * 0.3 - 16, 304), (x + turn * 0.4 - 8, 318), (x + turn * 0.4 + 14, 314)])
    neck = [
        curve([(196, 404), (194, 450), (150, 486), (100, 511)]),
        curve([(318, 404), (320, 450), (362, 486), (412, 511)]),
    ]
    lids = [oval(ex, ey, 27, 12) for ex, ey in eyes] + [oval(ex + turn * 0.1, ey, 9, 10) for ex, ey in eyes]
    brows = [oval(ex, ey - 12, 40, 26, 205, 335) for ex, ey in eyes]
    return {
        "face": [jaw, fringe],
        "hair": [hair],
        "eyes": lids,
        "brows": brows,
        "nose": [nose],
        "mouth": [mouth, lower],
        "neck": neck,
    }


def sketch(lines: dict[str, list[list[Point]]], width: float) -> Image.Image:
    """Lines as ink on paper."""
    paper = Image.new("L", (SIDE * FINE, SIDE * FINE), 255)
    brush = ImageDraw.Draw(paper)
    for line in (line for some in lines.values() for line in some):
        scaled = [(FINE * x, FINE * y) for x, y in line]
        brush.line(scaled, 20, round(width * FINE), joint="curve")
    return paper.resize((SIDE, SIDE), Image.Resampling.BOX)


def regions(lines: dict[str, list[list[Point]]], long_hair: bool) -> Image.Image:
    """The same face as a label map."""
    labels = Image.new("L", (SIDE, SIDE), 0)
    brush = ImageDraw.Draw(labels)
    number = parsing.CLASSES.index

    def fill(points: Sequence[Point], name: str) -> None:
        brush.polygon(list(points), number(name))

    hair, (jaw, fringe) = lines["hair"][0], lines["face"]
    fill(hair, "hair")
    fill([(196, 400), *lines["neck"][0], *lines["neck"][1][::-1], (318, 400)], "neck")
    fill([(100, 511), (150, 480), (256, 500), (362, 480), (412, 511)], "cloth")
    if long_hair:
        for side in (hair[: len(hair) // 3], hair[-len(hair) // 3 :]):
            fill([*side, (200 if side[0][0] < 256 else 312, 500)], "hair")
    fill(jaw + fringe[::-1], "skin")
    for name, line in zip(("right eye", "left eye"), lines["eyes"][:2], strict=True):
        fill(line, name)
    for name, line in zip(("right brow", "left brow"), lines["brows"], strict=True):
        brush.line(line, number(name), 9)
    nose = lines["nose"][0]
    fill([nose[0], *nose[12:], (nose[-1][0] + 10, nose[-1][1] - 12)], "nose")
    mouth, lower = lines["mouth"]
    fill(mouth + lower[::-1], "lower lip")
    brush.line(mouth, number("upper lip"), 9)
    coloured = parsing.picture(torch.zeros(1, 1, dtype=torch.long)).getpalette()
    labels = labels.convert("P")
    labels.putpalette(coloured or [])
    return labels


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, smile, turn, long_hair, width in (("smile", 1.0, 0, True, 3), ("turned", 0.2, 18, False, 4)):
        lines = parts(smile, turn, long_hair)
        sketch(lines, width).save(FOLDER / f"{name}.sketch.png")
        regions(lines, long_hair).save(FOLDER / f"{name}.labels.png")


if __name__ == "__main__":
    main()
