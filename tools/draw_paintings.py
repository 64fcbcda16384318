"""Draw what rough paint becomes: ``python tools/draw_paintings.py --out docs/images/paintings.jpg``.

On free photographs of ``examples/``: for each painting the painted square, and the face that it became.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import pixel2style as p2s
from pixel2style import images
from pixel2style.inference import paint
from pixel2style.inference.session import Result
from sheets import Row, save, sheet

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIDE = 200


def polygon(points: np.ndarray, *shapes: list[int]) -> Tensor:
    """A mask ``[1 256 256]`` with polygons of landmarks."""
    paper = Image.new("L", (256, 256))
    for shape in shapes:
        ImageDraw.Draw(paper).polygon([(float(x), float(y)) for x, y in points[shape]], fill=255)
    return images.to_tensor(paper)[:1].add(1).div(2)


def glasses(points: np.ndarray) -> Tensor:
    """A mask of two round glasses."""
    paper = Image.new("L", (256, 256))
    brush = ImageDraw.Draw(paper)
    (left, top), (right, low) = points[36:42].mean(0), points[42:48].mean(0)
    brush.line((left, top, right, low), fill=255, width=5)
    for x, y in ((left, top), (right, low)):
        brush.ellipse((x - 22, y - 16, x + 22, y + 16), fill=255)
    return images.to_tensor(paper)[:1].add(1).div(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    session = p2s.Session(precision="fp32")
    astronaut = session.invert(EXAMPLES / "astronaut.png")
    coelho, hopper = (session.invert(EXAMPLES / "gallery" / name) for name in ("coelho.jpg", "hopper.jpg"))

    def points(result: Result) -> np.ndarray:
        small = images.to_tensor(result.aligned.resize((256, 256), Image.Resampling.BOX))[None]
        with torch.no_grad():
            return np.asarray(session.landmarks.points(small)[0])

    def of(result: Result, other: Result, name: str) -> tuple[Result, Image.Image, Tensor]:
        mask = session.region(result, name)
        return result, paint.copied(result.aligned, other.aligned, mask, session.landmarks, name), mask

    def filled(result: Result, mask: Tensor, colour: str) -> tuple[Result, Image.Image, Tensor]:
        return result, paint.filled(result.aligned, mask, colour), mask

    chin = [*range(3, 14), 54, 57, 48]
    fringe = torch.zeros(1, 256, 256)
    fringe[:, 50:85, 70:190] = 1
    cases = {
        "mouth of another": of(coelho, astronaut, "mouth"),
        "eyes of another": of(astronaut, coelho, "eyes"),
        "brown chin": filled(coelho, polygon(points(coelho), chin), "#3c281e"),
        "black glasses": filled(astronaut, glasses(points(astronaut)), "#141419"),
        "brown fringe": filled(astronaut, fringe, "#28140a"),
        "face of another": of(astronaut, hopper, "face"),
    }
    rows: list[Row] = [[], []]
    for number, (name, (result, square, mask)) in enumerate(cases.items()):
        made = session.paint(result, square, mask).reconstruction
        small = square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        rows[number // 3] += [(name, small), ("becomes", made.resize((SIDE, SIDE), Image.Resampling.LANCZOS))]
        print(name, flush=True)
    save(sheet(rows, SIDE), given.out)


if __name__ == "__main__":
    main()
