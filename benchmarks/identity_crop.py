"""How well the identity networks separate people on FFHQ-aligned faces, for several crops around the chosen ones.

    python benchmarks/identity_crop.py FOLDER        # PERSON_NNNN.webp, two or more of some people, e.g. LFW aligned

Prints the mean cosine of the same and of different people, the separation d', the area under the ROC curve, and the
threshold of the equal error rate with that rate. MobileFaceNet's crop (pSp's:
rows from 35, columns from 32, side 188) and dlib's were chosen by this table.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pixel2style.metrics.identity import ARCFACE, BUNDLED, DLIB, Crop, Identity
from pixel2style.ops import COMPARE_SIZE

CROPS: dict[str, Sequence[tuple[int, int, int]]] = {
    "mobilefacenet": ((28, 32, 188), (42, 32, 188), (30, 26, 204), (20, 16, 224), (48, 40, 176), (58, 48, 160)),
    "dlib": ((35, 32, 188), (48, 37, 182), (56, 37, 182), (72, 37, 182), (59, 26, 204), (70, 44, 168)),
}
"""Crops beside the chosen one: first row, first column, side."""
CHOSEN = {"mobilefacenet": ARCFACE, "dlib": DLIB}


def read(folder: Path, people: int) -> Tensor:
    """Two pictures each of as many people, one after the other: ``[2 people, 3, 256, 256]`` in [-1, 1]."""
    by_person: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.glob("*.webp")):
        by_person[re.sub(r"_\d+$", "", file.stem)].append(file)
    pairs = [files[:2] for files in by_person.values() if len(files) > 1][:people]
    arrays = [np.asarray(Image.open(file).convert("RGB")) for pair in pairs for file in pair]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
    return F.interpolate(images, size=(COMPARE_SIZE, COMPARE_SIZE), mode="bilinear", align_corners=False)


@torch.no_grad()
def separation(images: Tensor, network: Identity) -> str:
    """One row of the table."""
    vectors = torch.cat([network.features(batch) for batch in images.split(50)])
    cosines = vectors[0::2] @ vectors[1::2].T
    same = cosines.diagonal().sort().values
    different = cosines[~torch.eye(len(cosines), dtype=torch.bool)].sort().values
    d_prime = (same.mean() - different.mean()) / ((same.var() + different.var()) / 2).sqrt()
    area = (torch.searchsorted(different, same) / len(different)).mean()
    missed = torch.arange(len(same)) / len(same)
    mistaken = 1 - torch.searchsorted(different, same) / len(different)
    even = int((missed - mistaken).abs().argmin())
    crop = f"{network.crop.top:4d} {network.crop.left:4d} {network.crop.side:4d}"
    rest = f"{d_prime:6.2f} {area:7.4f} {same[even]:9.3f} {(missed[even] + mistaken[even]) / 2:7.2%}"
    return f"{crop} {same.mean():7.3f} {different.mean():10.3f} {rest}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=450)
    parser.add_argument("--network", choices=list(BUNDLED), nargs="+", default=list(BUNDLED))
    arguments = parser.parse_args()
    images = read(arguments.folder, arguments.people)
    print(f"{len(images) // 2} people")
    for name in arguments.network:
        network = Identity(name)
        print(f"\n{name}, its crop first\n top left side    same  different     d'     AUC threshold   error")
        for crop in (CHOSEN[name], *(Crop(*crop, size=CHOSEN[name].size) for crop in CROPS[name])):
            network.crop = crop
            print(separation(images, network), flush=True)


if __name__ == "__main__":
    main()
