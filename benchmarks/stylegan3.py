"""What tiles and separable filters without zeros save: StyleGAN3 in three variants, alternating in one run.

    python benchmarks/stylegan3.py --size 256
    python benchmarks/stylegan3.py --size 1024 --rounds 2
    python benchmarks/stylegan3.py --size 256 --backward

"tiles" is what the package does. "whole" is the same arithmetic on the whole fine grid of each layer, which autograd
keeps for a gradient. "plain" is the definition: zeros between pixels, and both filters over everything, zeros included,
one axis after the other. Weights are random, T of the published widths (or R's design with --kind r), one
picture a batch by default. Times are wall seconds, minimum and median over the rounds; memory is how far a
process of its own rises above what it held before its first picture (``VmHWM``, on Linux only; CUDA's own count there).
All variants must draw the same picture: the largest difference is printed.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pixel2style.config import AliasFreeConfig, GeneratorConfig
from pixel2style.generators.stylegan3.filters import FilteredActivation, layout
from pixel2style.generators.stylegan3.network import StyleGAN3

GIB = 1 << 30


def whole(layer: FilteredActivation, x: Tensor) -> Tensor:
    reach = layer.reach((0, layer.m))
    return layer.tile(x[:, :, reach.pixels, reach.pixels], reach, reach)


def plain(layer: FilteredActivation, x: Tensor) -> Tensor:
    channels, up = x.shape[1], layer.up
    fine = x.new_zeros(len(x), channels, layer.n * up, layer.n * up)
    fine[:, :, ::up, ::up] = x
    wanted = (layer.m - 1) * layer.down + len(layer.down_filter)
    behind = wanted + len(layer.up_filter) - 1 - fine.shape[2] - layer.margin
    fine = functional.pad(fine, (layer.margin, behind, layer.margin, behind))
    fine = along(along(fine, layer.up_filter * up, (1, 1), 2), layer.up_filter * up, (1, 1), 3)
    fine = (functional.leaky_relu(fine, 0.2) * 2**0.5).clamp(-256, 256)
    if layer.down_filter.ndim == 2:
        weight = layer.down_filter.expand(channels, 1, -1, -1)
        fine = functional.conv2d(fine, weight, groups=channels)
    else:
        fine = along(along(fine, layer.down_filter, (1, 1), 2), layer.down_filter, (1, 1), 3)
    return fine[:, :, :: layer.down, :: layer.down].contiguous(memory_format=layout(x.device))


def along(x: Tensor, taps: Tensor, stride: tuple[int, int], axis: int) -> Tensor:
    weight = (taps[:, None] if axis == 2 else taps[None, :]).expand(x.shape[1], 1, -1, -1)
    return functional.conv2d(x, weight, stride=stride, groups=x.shape[1])


WAYS: dict[str, Callable[[FilteredActivation, Tensor], Tensor]] = {
    "tiles": FilteredActivation.forward,
    "whole": whole,
    "plain": plain,
}


def made(given: argparse.Namespace) -> tuple[StyleGAN3, Tensor]:
    torch.manual_seed(0)
    design = AliasFreeConfig(kernel=1, radial=True) if given.kind == "r" else AliasFreeConfig()
    generator = StyleGAN3(
        GeneratorConfig(kind="stylegan3", size=given.size, mapping_layers=2, clamp=256, alias_free=design)
    )
    generator.to(given.device)
    return generator, generator.map(torch.randn(given.batch, 512, device=given.device))


def draw(generator: StyleGAN3, ws: Tensor, way: str, backward: bool) -> tuple[float, Tensor]:
    FilteredActivation.forward = WAYS[way]  # type: ignore[method-assign]
    rows = ws.clone().requires_grad_(backward)
    start = time.perf_counter()
    image = generator.synthesize(rows)
    if backward:
        image.square().mean().backward()
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, image.detach()


def peak(given: argparse.Namespace) -> int:
    """How far memory rises above what the process held before, in bytes."""
    generator, ws = made(given)
    if given.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        draw(generator, ws, given.peak, given.backward)
        return torch.cuda.max_memory_allocated() - held
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held = resident("VmRSS")
    draw(generator, ws, given.peak, given.backward)
    return resident("VmHWM") - held


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--kind", default="t", choices=["t", "r"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--backward", action="store_true", help="also the gradient of the rows")
    parser.add_argument("--peak", choices=list(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak(given))
        return

    generator, ws = made(given)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    pictures = {way: draw(generator, ws, way, given.backward)[1] for way in WAYS}
    for _ in range(given.rounds):
        for way, spent in times.items():
            spent.append(draw(generator, ws, way, given.backward)[0])
    print(f"StyleGAN3-{given.kind.upper()} {given.size}, batch {given.batch}, {given.device}", end=", ")
    print(f"{torch.get_num_threads()} threads{', with backward' if given.backward else ''}")
    for way, spent in times.items():
        memory = int(subprocess.check_output([sys.executable, *sys.argv, "--peak", way], text=True))
        difference = float((pictures[way] - pictures["plain"]).abs().max() / pictures["plain"].abs().max())
        print(
            f"{way:6} {min(spent):8.3f} s at least, {statistics.median(spent):8.3f} s in the middle, "
            f"{memory / GIB:6.2f} GiB, differs by {difference:.1e}"
        )


if __name__ == "__main__":
    main()
