"""How much a picture of 256 pixels changes with residuals of the generator's maps, by frequency, as a table.

    python tools/measure_gain.py

Gain of a band of frequencies: the mean of |Jᵀu|² / |u|² for white noise u of that band, where J is the Jacobian of the
picture with respect to the residuals of a map, in units of the deviation of its channels; frequencies are in cycles per
picture. ``inference.optimize.maps`` weighs the errors of neighbouring pixels accordingly.
"""

import argparse
from itertools import pairwise

import torch

from pixel2style import assets, checkpoints, runtime
from pixel2style.generators import sampling
from pixel2style.ops import COMPARE_SIZE, pooled

SIDES = (16, 32, 64, 128)
EDGES = (0, 4, 8, 16, 32, 48, 64, 96, 129)


def gains(pictures: int, rng: torch.Generator) -> dict[tuple[int, int], list[float]]:
    """The gain of each map, for each band."""
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    rows = sampling.draw(generator, pictures, rng, generator.w_avg, truncation=0.7)
    vertical, horizontal = torch.fft.fftfreq(COMPARE_SIZE), torch.fft.rfftfreq(COMPARE_SIZE)
    frequency = COMPARE_SIZE * torch.maximum(vertical[:, None].abs(), horizontal[None].abs())
    found: dict[tuple[int, int], list[float]] = {band: [0.0] * len(SIDES) for band in pairwise(EDGES)}
    for w in rows:
        ws = w.expand(1, generator.rows, -1)
        units = [generator.features(ws, side).std((2, 3), keepdim=True) for side in SIDES]
        deltas = [
            torch.zeros(1, unit.shape[1], side, side, requires_grad=True)
            for side, unit in zip(SIDES, units, strict=True)
        ]
        residuals = {side: delta * unit for side, delta, unit in zip(SIDES, deltas, units, strict=True)}
        drawn = pooled(generator.synthesize(ws, residuals=residuals))
        for (low, high), band in found.items():
            noise = torch.fft.rfft2(torch.randn(drawn.shape, generator=rng)) * ((frequency >= low) & (frequency < high))
            noise = torch.fft.irfft2(noise, s=drawn.shape[-2:])
            gradients = torch.autograd.grad((drawn * noise).sum(), deltas, retain_graph=True)
            for index, gradient in enumerate(gradients):
                band[index] += float(gradient.square().sum() / noise.square().sum()) / pictures
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4, help="generated pictures that are averaged")
    options = parser.parse_args()
    runtime.keep_freed_memory()
    print(f"| cycles per picture | {' | '.join(f'map of {side}' for side in SIDES)} |\n|---|{'---|' * len(SIDES)}")
    for (low, high), band in gains(options.pictures, torch.Generator().manual_seed(0)).items():
        print(f"| {low} to {high} | {' | '.join(f'{gain:.4f}' for gain in band)} |")


if __name__ == "__main__":
    main()
