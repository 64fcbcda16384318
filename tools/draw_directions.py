"""Draw a strip of every bundled direction on generated faces: ``python tools/draw_directions.py --out docs/images``.

Two faces in a line, each from -2 to 2 units, drawn in full and reduced; several directions a sheet: directions-1.jpg,
and so on. Faces are generated (truncation .7), so they show nobody.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from pixel2style import assets, checkpoints, images
from pixel2style.generators import sampling
from pixel2style.inference import edit
from sheets import Row, save, sheet

AMOUNTS = (-2.0, -1.0, 0.0, 1.0, 2.0)
SIDE = 132
ROWS = 5
"""Directions on a sheet."""


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 3))
    given = parser.parse_args()
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    faces = [
        sampling.draw(generator, 1, torch.Generator().manual_seed(seed), generator.w_avg, 0.7)[0]
        for seed in given.seeds
    ]
    rows: list[Row] = []
    for name, direction in edit.bundled(generator).items():
        row: Row = []
        for w in faces:
            for amount in AMOUNTS:
                ws = direction.apply(w.expand(1, generator.rows, -1), amount)
                picture = images.to_picture(generator.synthesize(ws)[0]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                row.append((f"{name} {amount:+g}" if amount else name, picture))
        rows.append(row)
        print(name, flush=True)
    for number, first in enumerate(range(0, len(rows), ROWS), 1):
        save(sheet(rows[first : first + ROWS], SIDE), given.out / f"directions-{number}.jpg")


if __name__ == "__main__":
    main()
