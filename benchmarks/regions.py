"""How visible the edge of an edited region is: the step of colour across it, as ``benchmarks/seam.py`` measures it.

    python benchmarks/regions.py examples/astronaut.png examples/gallery/*.jpg

For each edit and region: the step in the inversion, in the whole edit cross-faded into the inversion, and in what
``pixel2style edit --only`` gives, levels of 255, where the mask is a half; then the largest difference to the inversion
farther than 1/32 of the side from the mask.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

import pixel2style as p2s
from pixel2style import images
from pixel2style.inference import edit
from pixel2style.ops import COMPARE_SIZE
from seam import step

CASES = (
    ("smile=2", "mouth"), ("mouth-open=2", "mouth"), ("masculine=-2", "mouth"), ("age=2", "eyes"), ("yaw=1", "eyes"),
    ("age=2", "skin"), ("light=2", "skin"), ("hair-light=2", "hair"), ("background-light=2", "background"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="a folder for pictures: cross-faded and joined")
    asked = parser.parse_args()
    session = p2s.Session()
    generator = session.model.generator
    total = torch.zeros(3)
    print(f"{'':18} {'edit':14} {'region':7} {'inversion':>9} {'faded':>7} {'joined':>7} {'outside':>8}")
    for photo in asked.photo:
        result = session.invert(photo)
        before = images.to_tensor(result.reconstruction)
        for words, region in CASES:
            ws = edit.edited(result.ws, [edit.parsed(words, generator)])
            whole, local = session.edit(result, ws), session.edit(result, ws, only=region)
            share = session.region(replace(result, reconstruction=whole.reconstruction), region)
            share = images.resize(share[None], generator.size)[0]
            faded, joined = (images.to_tensor(one.reconstruction) for one in (whole, local))
            faded = share * faded + (1 - share) * before
            far = F.max_pool2d(share, 65, 1, 32)[0] == 0
            outside = float((joined - before).abs().amax(0)[far].amax()) * 127.5
            kept = share.lt(0.5).float()
            small = [images.resize(one[None], COMPARE_SIZE)[0] for one in (kept, before, faded, joined)]
            steps = torch.tensor([step(one, small[0]) for one in small[1:]])
            total += steps
            figures = " ".join(f"{float(one):7.2f}" for one in steps)
            print(f"{photo.name:18} {words:14} {region:7}   {figures} {outside:8.1f}", flush=True)
            if asked.out:
                pair = [images.to_picture(one) for one in (faded, joined)]
                images.save(images.grid(pair, 2), asked.out / f"{photo.stem}.{words}.{region}.png")
    mean = " ".join(f"{float(one):7.2f}" for one in total / len(CASES) / len(asked.photo))
    print(f"{'mean':18} {'':14} {'':7}   {mean}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
