"""What an encoder is shown: photographs from folders, and pictures the generator makes from rows we know.

Everything random is drawn from a generator seeded by (seed, step), so that a run which is resumed sees what an unbroken
one would have seen. Photographs are aligned already (``pixel2style align``).

Axes: ``b`` batch, ``c`` channels, ``s`` side, ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from . import images
from .errors import ConfigError
from .folders import SUFFIXES

SIDE = 256


def dice(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step; always on the CPU, so that every device sees the same."""
    mixed = np.random.SeedSequence([seed, step]).generate_state(2)
    return torch.Generator().manual_seed(int(mixed[0]) << 32 | int(mixed[1]))


def photo_files(folder: str) -> list[Path]:
    """The pictures in a folder and below, sorted. Raises ConfigError when there are none."""
    root = Path(folder)
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ConfigError(f"{folder} holds no pictures: name a folder of aligned photographs")
    return files


def _pixels(file: Path) -> Tensor:
    picture = images.load(file).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def read_folder(folder: str) -> Tensor:
    """Every picture of a folder at 256 pixels: ``[n 3 256 256]``, bytes (200 KB a picture)."""
    files = photo_files(folder)
    pixels = torch.empty(len(files), 3, SIDE, SIDE, dtype=torch.uint8)  # filled in place: a list would be as much again
    with ThreadPoolExecutor() as pool:
        for place, picture in zip(pixels, pool.map(_pixels, files), strict=True):
            place.copy_(picture)
    return pixels


class Photographs:
    """Folders of photographs in memory, each drawn from in proportion to the square root of its size."""

    def __init__(self, folders: Sequence[str], device: torch.device):
        self.folders = [read_folder(folder).to(device) for folder in folders]
        sizes = torch.tensor([float(len(folder)) for folder in self.folders])
        self.shares = sizes.sqrt() / sizes.sqrt().sum()

    def __len__(self) -> int:
        return sum(len(folder) for folder in self.folders)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """``[count 3 256 256]`` in [-1, 1], half of them mirrored."""
        which = torch.multinomial(self.shares, count, replacement=True, generator=rng).tolist()
        picked = [self.folders[i][int(torch.randint(len(self.folders[i]), (), generator=rng))] for i in which]
        batch = to_float(torch.stack(picked))
        mirrored = torch.rand(count, generator=rng) < 0.5
        return torch.where(mirrored.to(batch.device)[:, None, None, None], batch.flip(3), batch)


def to_float(pixels: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def augment(batch: Tensor, rng: torch.Generator, share: float = 0.6) -> Tensor:
    """Move, turn, scale and tint a share of the pictures a little: ``[b 3 s s]`` in [-1, 1] to the same.

    As much as detectors differ and cameras do: 4 degrees, 6 % of scale, 3 % of the side; brightness, contrast,
    saturation and the three channels by about 10 %.
    """
    count, device = len(batch), batch.device

    def spread(width: float, *shape: int) -> Tensor:
        chosen = (torch.rand(count, generator=rng) < share).float()
        noise = torch.randn(count, *shape, generator=rng).clamp(-2, 2) * width
        return (noise * chosen.reshape(count, *[1] * len(shape))).to(device)

    angle, scale, shift = spread(0.035), torch.exp(spread(0.03)), spread(0.03, 2)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    with torch.autocast(device.type, enabled=False):  # in bfloat16 places would be off by up to half a pixel
        grid = F.affine_grid(torch.cat([turn, shift[:, :, None]], 2), list(batch.shape), align_corners=False)
        batch = F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gray = batch.mean(1, keepdim=True)
    batch = gray + (batch - gray) * torch.exp(spread(0.12, 1, 1, 1))
    mean = batch.mean((1, 2, 3), keepdim=True)
    batch = mean + (batch - mean) * torch.exp(spread(0.08, 1, 1, 1))
    return (batch + spread(0.06, 1, 1, 1) + spread(0.04, 3, 1, 1)).clamp(-1, 1)


def mixed_codes(w_codes: Tensor, bank: Tensor, rng: torch.Generator) -> Tensor:
    """Rows worth knowing: ``[3b d]`` mapped codes and a bank ``[n k d]`` of encoded photographs to ``[b k d]``.

    Each picture has its rows from up to three sources, cut at random places. Half of the pictures take mapped codes,
    pulled towards the average by 0.7 to 1; the other half take rows of encoded photographs, with a little noise.
    """
    rows = bank.shape[1]
    count = len(w_codes) // 3
    device = w_codes.device
    truncation = (0.7 + 0.3 * torch.rand(count, 1, 1, 1, generator=rng)).to(device)
    mapped = w_codes.reshape(count, 3, 1, -1) * truncation
    chosen = torch.randint(len(bank), (count, 3), generator=rng).to(device)
    encoded = bank[chosen] + 0.15 * torch.randn(count, 3, rows, bank.shape[2], generator=rng).to(device)
    from_bank = (torch.rand(count, 1, 1, 1, generator=rng) < 0.5).to(device)
    sources = torch.where(from_bank, encoded, mapped.expand(-1, -1, rows, -1))
    return cut_together(sources, rng)


def cut_together(sources: Tensor, rng: torch.Generator) -> Tensor:
    """``[b 3 k d] -> [b k d]``: the first rows of one source, then of the next, cut at two random places."""
    count, _, rows, width = sources.shape
    cuts = torch.randint(-rows // 2, rows + rows // 2, (count, 2), generator=rng).sort(1).values
    place = torch.arange(rows)
    source = ((place >= cuts[:, :1]).long() + (place >= cuts[:, 1:]).long()).to(sources.device)
    return sources.gather(1, source[:, None, :, None].expand(-1, 1, -1, width))[:, 0]
