"""Bundled directions beside published ones: what an equal change costs in identity and other attributes.

    python benchmarks/directions.py --reference FOLDER --faces 200

Faces are generated (truncation .7, other seeds than those that directions were found with) and drawn at 256 pixels by
the generator's small head. FOLDER has ``age.pt``, ``smile.pt`` and ``pose.pt`` of omertov/encoder4editing. Each
direction is moved by several amounts both ways; between them change, identity (dlib's network, cosine to the face
before) and the mean change of all other attributes are interpolated linearly, so that all are compared at a mean change
of one and of two standard deviations of the attribute (nan: it does not change as much).
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixel2style import assets, checkpoints
from pixel2style.editing import directions
from pixel2style.editing.directions import Direction
from pixel2style.inference import edit

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))
from face_scores import Faces, Scorer

PUBLISHED = {"age": "age.pt", "smile": "smile.pt", "yaw": "pose.pt"}
AMOUNTS = (1.0, 2.0, 3.0)
"""Of units of a direction, both ways."""
AT = (1.0, 2.0)
SEED = 7


def one_way(faces: Faces, moved: Callable[[float], Tensor], name: str, sign: float) -> list[tuple[float, ...]]:
    """For each of ``AT``: units moved, identity and mean change of other attributes, in the direction of ``sign``.

    ``moved`` gives the faces' rows, edited by a number of units.
    """
    index = faces.scorer.names.index(name)
    points = [(0.0, 0.0, 1.0, 0.0)]
    for amount in AMOUNTS:
        change, same = faces.changed(moved(sign * amount))
        others = torch.cat([change[:index], change[index + 1 :]]).abs().mean()
        points.append((abs(float(change[index])), amount, same, float(others)))
        if points[-1][0] > AT[-1]:
            break
    changes = np.maximum.accumulate([one[0] for one in points])
    values = list(zip(*(one[1:] for one in points), strict=True))
    return [tuple(float(np.interp(at, changes, value, right=np.nan)) for value in values) for at in AT]


def at_equal_change(faces: Faces, moved: Callable[[float], Tensor], name: str) -> list[tuple[float, ...]]:
    """The means of ``one_way`` up and down."""
    ways = [one_way(faces, moved, name, sign) for sign in (1.0, -1.0)]
    return [tuple(np.mean([way[number] for way in ways], 0).tolist()) for number in range(len(AT))]


def unit_of(faces: Faces, direction: Direction, name: str) -> Direction:
    """A published direction with the sign and the length that change the attribute by one deviation, about."""
    change = float(faces.moved(direction.vector, 1.0, direction.rows)[0][faces.scorer.names.index(name)])
    return directions.scaled(direction, 1 / change) if abs(change) > 0.1 else direction


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a folder with age.pt, smile.pt and pose.pt")
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--names", nargs="+", help="bundled directions; all by default")
    given = parser.parse_args()
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    faces = Faces(generator, given.faces, SEED, Scorer())
    bundled = edit.bundled(generator)
    print("| direction | units | identity | others | units | identity | others |\n|---|---|---|---|---|---|---|")
    for name in given.names or bundled:
        both = {name: bundled[name]}
        if given.reference and name in PUBLISHED:
            theirs = directions.load(given.reference / PUBLISHED[name], generator)
            both[f"{name}, e4e"] = unit_of(faces, unit_of(faces, theirs, name), name)
        for label, direction in both.items():
            cells = [
                f"{units:.2f} | {same:.3f} | {others:.3f}"
                for units, same, others in at_equal_change(faces, partial(direction.apply, faces.ws), name)
            ]
            print(f"| `{label}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
