"""Inputs that all generators have in common: checks of noise, labels, rows and size; random latents; the mean of W.

Random numbers are those of a CPU, so that a seed gives the same on every device.

Axes: ``b`` batch, ``n`` numbers of noise, ``c`` classes, ``k`` rows, ``d`` width of a row.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ..config import GeneratorConfig
from ..errors import ConfigError
from .base import Generator

CHUNK = 4096
"""Latents that are mapped at once."""


def noise_width(config: GeneratorConfig) -> int:
    """Numbers of noise that ``map`` takes."""
    return config.noise_width or config.width


def check(config: GeneratorConfig, z: Tensor, labels: Tensor | None) -> None:
    """Raise ConfigError unless ``z`` and ``labels`` fit the generator of ``config``."""
    if z.ndim != 2 or z.shape[1] != noise_width(config):
        raise ConfigError(f"noise for this generator is [batch, {noise_width(config)}], got {list(z.shape)}")
    if labels is None and config.classes:
        raise ConfigError(f"this generator is class-conditional: give one-hot labels [batch, {config.classes}]")
    if labels is not None and not config.classes:
        raise ConfigError("this generator is not class-conditional: leave labels out")
    if labels is not None and labels.shape != (z.shape[0], config.classes):
        raise ConfigError(
            f"labels for this generator are [{z.shape[0]}, {config.classes}] here, got {list(labels.shape)}"
        )


def truncated(w: Tensor, average: Tensor, truncation: float) -> Tensor:
    """Latents ``[b d]`` moved towards ``average`` ``[d]`` by ``truncation`` below 1."""
    return w if truncation == 1 else torch.lerp(average.to(w.dtype), w, truncation)


def rows_of(ws: Tensor, rows: int, width: int) -> Tensor:
    """``[b rows width]`` as it is, or ``[b width]`` repeated for all rows. Raises ConfigError for other shapes."""
    if ws.ndim == 2:
        ws = ws[:, None].expand(-1, rows, -1)
    if ws.ndim != 3 or ws.shape[1:] != (rows, width):
        raise ConfigError(f"this generator takes rows of shape [batch, {rows}, {width}], got {list(ws.shape)}")
    return ws


def size_of(size: int | None, most: int) -> int:
    """``size``, or ``most`` where it is None. Raises ConfigError for one that is not 1 to ``most``."""
    size = most if size is None else size
    if not 1 <= size <= most:
        raise ConfigError(f"this generator has up to {most} pixels: size must be 1 to {most}, got {size}")
    return size


def seeded(seed: int) -> torch.Generator:
    """Random numbers that follow from ``seed``. Raises ConfigError for one of more than 64 bits."""
    if not -(2**63) <= seed < 2**64:
        raise ConfigError(f"a seed is a whole number of up to 64 bits, not {seed}: try 0")
    return torch.Generator().manual_seed(seed)


def draw(generator: Generator, count: int, rng: torch.Generator, like: Tensor, truncation: float = 1.0) -> Tensor:
    """``count`` random latents ``[count d]`` by the CPU's ``rng``, on the device and in the type of ``like``.

    Class-conditional generators get uniformly distributed classes.
    """
    z = torch.randn(count, noise_width(generator.config), generator=rng).to(like)
    classes = generator.config.classes
    if not classes:
        return generator.map(z, truncation)
    chosen = torch.randint(classes, (count,), generator=rng)
    return generator.map(z, truncation, functional.one_hot(chosen, classes).to(like))


@torch.no_grad()
def average_w(generator: Generator, samples: int = 100_000, seed: int = 0) -> Tensor:
    """The mean ``[d]`` of ``samples`` random latents, for a file without ``w_avg``; on the device of ``w_avg``.

    The generator is not changed. On the meta device the result is a meta tensor.
    """
    if generator.w_avg.is_meta:
        return torch.empty_like(generator.w_avg)
    rng = torch.Generator().manual_seed(seed)
    like = generator.w_avg
    total = torch.zeros(generator.config.width, dtype=torch.float64)
    for start in range(0, samples, CHUNK):
        total += draw(generator, min(CHUNK, samples - start), rng, like).double().sum(dim=0).cpu()
    return (total / samples).to(like)
