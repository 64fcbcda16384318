"""How visible the edge of a filled part is: the step of colour across it, with and without matched colours.

    python benchmarks/seam.py examples/astronaut.png

A step is the difference between mean colours on the two sides of the edge, each within 1/64 of the picture's side, in
levels of 255, averaged along the edge at 256 pixels. The photograph itself has steps there, too.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import pixel2style as p2s
from pixel2style import images
from pixel2style.inference.prepare import prepare
from pixel2style.ops import COMPARE_SIZE, blurred
from pixel2style.tasks import face_masks
from pixel2style.tasks.request import Prepared, Request

NEAR = 1 / 64
"""Width of the strips on both sides, as a share of the picture's side."""


def step(picture: Tensor, kept: Tensor) -> float:
    """The mean step of ``picture`` [3 r r] in [-1, 1] across the edge of the part that is hidden, levels of 255."""
    sigma = kept.shape[-1] * NEAR / 2
    sides = [kept.lt(0.001).float(), kept.gt(0.999).float()]
    weights = [blurred(side, sigma) for side in sides]
    means = [
        blurred(picture * side, sigma) / weight.clamp(min=1e-6) for side, weight in zip(sides, weights, strict=True)
    ]
    edge = (kept > 0) & (kept < 1) & (weights[0] > 0.01) & (weights[1] > 0.01)
    return float((means[0] - means[1]).abs().mean(0, keepdim=True)[edge].mean()) * 127.5


def filled(session: p2s.Session, photo: Path, mask: str, seed: int) -> tuple[Prepared, list[Tensor]]:
    """What the model was shown, and the pictures [3 r r] in [-1, 1]: known pixels pasted, and with matched colours."""
    request = Request("inpaint", mask=mask, keep_known=True, seed=seed)
    shown = prepare(photo, request, session.model.config, session.aligner)
    assert shown.target is not None and shown.kept is not None
    drawn, matched = (
        images.to_tensor(session.translate(photo, mask=mask, seed=seed, keep_known=keep).reconstruction)
        for keep in (False, True)
    )
    return shown, [shown.kept * shown.target + (1 - shown.kept) * drawn, matched]


def main() -> None:
    """Print the steps of every mask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="+")
    parser.add_argument("--masks", nargs="+", default=face_masks.MASKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for pictures: without and with matched colours")
    asked = parser.parse_args()
    session = p2s.Session("inpaint")
    print(f"{'':24} {'mask':8} {'photograph':>10} {'pasted':>8} {'matched':>8}")
    for photo in asked.photo:
        for mask in asked.masks:
            shown, made = filled(session, photo, mask, asked.seed)
            assert shown.target is not None and shown.kept is not None
            small = [images.resize(one[None], COMPARE_SIZE)[0] for one in (shown.kept, shown.target, *made)]
            steps = [step(one, small[0]) for one in small[1:]]
            print(f"{photo.name:24} {mask:8} {steps[0]:10.1f} {steps[1]:8.1f} {steps[2]:8.1f}", flush=True)
            if asked.out:
                asked.out.mkdir(parents=True, exist_ok=True)
                pair = [images.to_picture(one) for one in made]
                images.save(images.grid(pair, 2), asked.out / f"{photo.stem}.{mask}.png")


if __name__ == "__main__":
    with torch.no_grad():
        main()
