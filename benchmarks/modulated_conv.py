"""What scaling activations instead of weights saves: StyleGAN2's forward pass in both variants, alternating in one run.

    python benchmarks/modulated_conv.py --size 256 --batch 4

"shared" is what the package does: one convolution a batch, styles applied to activations, features channels-last.
"contiguous" is the same with the features of each channel together. "grouped" builds every sample's own weights and
runs them as one grouped convolution, as the published implementations do. Times are CPU seconds of the process on one
thread, on which other work on the machine has little effect, or wall seconds with ``--device cuda``; the minimum and
the median over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pixel2style.config import GeneratorConfig
from pixel2style.generators.stylegan2 import network
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.ops import ModulatedConv2d, blur


def grouped(layer: ModulatedConv2d, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
    """``ModulatedConv2d.undemodulated`` with weights of its own for every sample, demodulated already."""
    batch, channels, height, width = x.shape
    weight = layer.weight * layer.scale * layer.modulation(style)[:, None, :, None, None]
    if layer.demodulate:
        weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * channels, height, width)
    if layer.up:
        y = functional.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    else:
        y = functional.conv2d(x, weight.flatten(0, 1), padding=layer.padding, groups=batch)
    y = y.reshape(batch, -1, *y.shape[2:])
    one = x.new_ones(1, 1, 1, 1) if layer.demodulate else None
    return (blur(y, 1, gain=4.0) if layer.up else y), one


def seconds(step: Callable[[], object], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--backward", action="store_true", help="also the gradient of the rows")
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)

    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=given.size)).to(given.device)
    ws = torch.randn(given.batch, generator.rows, generator.width, device=given.device)
    shared = ModulatedConv2d.undemodulated

    def step() -> Tensor:
        rows = ws.clone().requires_grad_(given.backward)
        image = generator.synthesize(rows)
        if given.backward:
            image.square().mean().backward()
        return image.detach()

    ways = {
        "shared": (shared, torch.channels_last),
        "contiguous": (shared, torch.contiguous_format),
        "grouped": (grouped, torch.contiguous_format),
    }

    def take(way: str) -> None:
        ModulatedConv2d.undemodulated, network.LAYOUT = ways[way]  # type: ignore[method-assign]

    times: dict[str, list[float]] = {way: [] for way in ways}
    images = {}
    for way in ways:
        take(way)
        images[way] = step()
    for _ in range(given.rounds):
        for way in ways:
            take(way)
            times[way].append(seconds(step, given.device))
    take("shared")

    difference = float((images["shared"] - images["grouped"]).norm() / images["grouped"].norm())
    print(f"{given.size} pixels, batch {given.batch}, {given.device}, {given.rounds} rounds; differ {difference:.0e}")
    for way, taken in times.items():
        ratio = statistics.median(mine / ours for mine, ours in zip(taken, times["shared"], strict=True))
        print(f"{way:10} min {min(taken):7.3f} s   median {statistics.median(taken):7.3f} s   x{ratio:.2f} of shared")


if __name__ == "__main__":
    main()
