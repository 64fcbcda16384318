"""What every generator takes, checked and drawn: normal noise, labels where it is told what to draw, rows, a size.

Noise comes from a CPU's random numbers, so that a seed means the same on every device. Axes: ``b`` batch, ``n`` numbers
of noise, ``c`` numbers in a label, ``k`` rows, ``d`` width of a row. This module does not know which generators there
are.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ..config import GeneratorConfig
from ..errors import ConfigError
from .base import Generator

AT_ONCE = 4096


def noise_width(config: GeneratorConfig) -> int:
    """How many numbers ``map`` takes."""
    return config.noise_width or config.width


def check(config: GeneratorConfig, z: Tensor, labels: Tensor | None) -> None:
    """Raise ConfigError unless ``map`` of a generator so configured can take ``z`` and ``labels``."""
    if z.ndim != 2 or z.shape[1] != noise_width(config):
        raise ConfigError(f"noise for this generator is [batch, {noise_width(config)}], got {list(z.shape)}")
    if labels is None and config.classes:
        raise ConfigError(
            f"this generator is told what to draw: give labels [batch, {config.classes}], 1 at the class wanted and 0 "
            "elsewhere"
        )
    if labels is not None and not config.classes:
        raise ConfigError("this generator is told nothing of what to draw: leave labels out")
    if labels is not None and labels.shape != (z.shape[0], config.classes):
        raise ConfigError(
            f"labels for this generator are [{z.shape[0]}, {config.classes}] here, got {list(labels.shape)}"
        )


def truncated(w: Tensor, average: Tensor, truncation: float) -> Tensor:
    """Latents ``[b d]`` pulled towards ``average`` ``[d]`` by a ``truncation`` below 1; at 1 they stay."""
    return w if truncation == 1 else torch.lerp(average.to(w.dtype), w, truncation)


def rows_of(ws: Tensor, rows: int, width: int) -> Tensor:
    """``[b rows width]`` from that or from ``[b width]``, every row alike. Raises ConfigError for other shapes."""
    if ws.ndim == 2:
        ws = ws[:, None].expand(-1, rows, -1)
    if ws.ndim != 3 or ws.shape[1:] != (rows, width):
        raise ConfigError(f"this generator takes rows of shape [batch, {rows}, {width}], got {list(ws.shape)}")
    return ws


def size_of(size: int | None, most: int) -> int:
    """The size of a picture that is asked for, ``most`` where none is. Raises ConfigError where it cannot be drawn."""
    size = most if size is None else size
    if not 1 <= size <= most:
        raise ConfigError(f"this generator draws up to {most} pixels: ask for 1 to that, not {size}")
    return size


def draw(generator: Generator, count: int, rng: torch.Generator, like: Tensor, truncation: float = 1.0) -> Tensor:
    """Latents of ``count`` normal draws by a CPU's ``rng``, ``[count d]``, on the device and in the type of ``like``.

    Labels, where the generator wants them, are each class with the same probability.
    """
    z = torch.randn(count, noise_width(generator.config), generator=rng).to(like)
    classes = generator.config.classes
    if not classes:
        return generator.map(z, truncation)
    chosen = torch.randint(classes, (count,), generator=rng)
    return generator.map(z, truncation, functional.one_hot(chosen, classes).to(like))


@torch.no_grad()
def average_w(generator: Generator, samples: int = 100_000, seed: int = 0) -> Tensor:
    """The mean of ``samples`` mapped draws, ``[d]``: what ``w_avg`` is where a file has none.

    It is where the generator's own ``w_avg`` is, which stays as it was; one without numbers (meta) has none.
    """
    if generator.w_avg.is_meta:
        return torch.empty_like(generator.w_avg)
    rng = torch.Generator().manual_seed(seed)
    like = generator.w_avg
    total = torch.zeros(generator.config.width, dtype=torch.float64)
    for start in range(0, samples, AT_ONCE):
        total += draw(generator, min(AT_ONCE, samples - start), rng, like).double().sum(dim=0).cpu()
    return (total / samples).to(like)
