"""How well the identity judge tells people apart on FFHQ-aligned faces, for several crops around pSp's.

    python benchmarks/identity_crop.py FOLDER        # PERSON_NNNN.webp, two or more of some people, e.g. LFW aligned

Prints mean cosine of the same and of different people, the separation d' and the area under the ROC curve. pSp's crop
(rows from 35, columns from 32, side 188) was chosen by this table.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pixel2style import mobilefacenet
from pixel2style.features import FACE_SIZE, FRAME

CROPS = ((35, 32, 188), (28, 32, 188), (42, 32, 188), (30, 26, 204), (20, 16, 224), (48, 40, 176), (58, 48, 160))


def read(folder: Path, people: int) -> Tensor:
    """Two pictures each of as many people, one after the other: ``[2 people, 3, 256, 256]`` in [-1, 1]."""
    by_person: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.glob("*.webp")):
        by_person[re.sub(r"_\d+$", "", file.stem)].append(file)
    pairs = [files[:2] for files in by_person.values() if len(files) > 1][:people]
    arrays = [np.asarray(Image.open(file).convert("RGB")) for pair in pairs for file in pair]
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
    return F.interpolate(images, size=(FRAME, FRAME), mode="bilinear", align_corners=False)


@torch.no_grad()
def separation(images: Tensor, top: int, left: int, side: int) -> str:
    """One row of the table."""
    network = mobilefacenet.pretrained()
    faces = F.adaptive_avg_pool2d(images[..., top : top + side, left : left + side], FACE_SIZE)
    vectors = torch.cat([F.normalize(network(batch), dim=1) for batch in faces.split(50)])
    cosines = vectors[0::2] @ vectors[1::2].T
    same = cosines.diagonal()
    different = cosines[~torch.eye(len(cosines), dtype=torch.bool)]
    d_prime = (same.mean() - different.mean()) / ((same.var() + different.var()) / 2).sqrt()
    area = (torch.searchsorted(different.sort().values, same.contiguous()) / len(different)).mean()
    return f"{top:4d} {left:4d} {side:4d} {same.mean():7.3f} {different.mean():10.3f} {d_prime:6.2f} {area:7.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=450)
    arguments = parser.parse_args()
    images = read(arguments.folder, arguments.people)
    print(f"{len(images) // 2} people\n top left side    same  different     d'     AUC")
    for crop in CROPS:
        print(separation(images, *crop))


if __name__ == "__main__":
    main()
