"""Scores of the bundled face parser: python benchmarks/parsing.py --data celebahq_val

The folder holds ``images/K.jpg``, aligned faces, and ``masks/K.png``, palette pictures of CelebAMask-HQ's classes,
which are compared at 256 pixels. Prints a line for each class: its intersection over union, and its share of all
pixels.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pixel2style import images
from pixel2style.metrics import parsing

SIDE = 256


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--data", type=Path, required=True)
    folder = reader.parse_args().data
    table = torch.zeros(len(parsing.CLASSES), len(parsing.CLASSES))
    files = sorted((folder / "images").iterdir())
    for file in files:
        photograph = images.to_tensor(images.load(file).resize((SIDE, SIDE)))
        mask = Image.open(folder / "masks" / f"{file.stem}.png").resize((SIDE, SIDE), Image.Resampling.NEAREST)
        true = torch.from_numpy(np.array(mask)).long()
        table += parsing.confusion(parsing.regions(photograph[None])[0], true)
    mean, correct, overlap = parsing.scores(table)
    parts = (table.sum(1) / table.sum()).tolist()
    for name, share, part in zip(parsing.CLASSES, overlap.tolist(), parts, strict=True):
        print(f"{name:<12} {share:.3f}  ({100 * part:.2f} % of the pixels)")
    print(f"{len(files)} pictures: mIoU {mean:.3f}, right pixels {correct:.4f}")


if __name__ == "__main__":
    main()
