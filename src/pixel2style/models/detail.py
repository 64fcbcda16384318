"""The detail encoder: what a photograph has and rows cannot carry, as residuals on maps of the frozen generator.

Rows of W+ are about 8,000 numbers; a hat, a background or a birthmark is not among them. A residual added to an
intermediate map of the generator carries such detail (F/W+ space: BDInvert, arXiv 2112.07917; FeatureStyleEncoder,
arXiv 2202.02183). The network sees the photograph, its difference to what the rows draw, and the generator's own
map, and gives a residual for a coarse map (usually the one of 32 pixels) and, with ``fine_width``, for the next one.

Axes: ``b`` batch, ``c`` channels, ``s`` side of the coarse map.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import DetailConfig

SLOPE = 0.2
STEM = 64
MIDDLE = 128
"""Channels at four times and twice the side of the coarse map."""


class ResidualUnit(nn.Module):
    """``x`` plus two convolutions of it, each after LeakyReLU: ``[b c h w]`` to the same. Starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.conv1.weight, SLOPE)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``[b c h w]`` to the same."""
        x1: Tensor = self.conv1(F.leaky_relu(x, SLOPE))
        x2: Tensor = self.conv2(F.leaky_relu(x1, SLOPE))
        return x + x2


class DetailEncoder(nn.Module):
    """Photograph, reconstruction and the generator's own coarse map to residuals of its maps, by their side.

    Outputs are computed in units of each channel's standard deviation, so one learning rate fits all maps; the last
    layers start at zero, so an untrained network changes nothing. ``coarse_mean``, ``coarse_std`` and ``fine_std``
    ``[c]`` are statistics of the generator's maps and part of the state.
    """

    coarse_mean: Tensor
    coarse_std: Tensor
    fine_std: Tensor

    def __init__(self, config: DetailConfig):
        super().__init__()
        self.config = config
        width, fine = config.width, config.fine_width
        self.stem = nn.Conv2d(6 * 4, STEM, 3, padding=1)
        self.to_middle = nn.Conv2d(STEM, MIDDLE, 3, 2, 1)
        self.to_coarse = nn.Conv2d(MIDDLE, width, 3, 2, 1)
        self.from_map = nn.Conv2d(config.channels[0], width, 1)
        self.units = nn.Sequential(*(ResidualUnit(width) for _ in range(config.units)))
        self.coarse = nn.Conv2d(width, config.channels[0], 3, padding=1)
        outputs = [self.coarse]
        if fine:
            self.up = nn.Conv2d(width, 4 * fine, 1)
            self.skip = nn.Conv2d(MIDDLE, fine, 1)
            self.fine_units = nn.Sequential(*(ResidualUnit(fine) for _ in range(config.fine_units)))
            self.fine = nn.Conv2d(fine, config.channels[1], 1)
            outputs.append(self.fine)
        for output in outputs:
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)  # type: ignore[arg-type]
        self.register_buffer("coarse_mean", torch.zeros(config.channels[0]))
        self.register_buffer("coarse_std", torch.ones(config.channels[0]))
        self.register_buffer("fine_std", torch.ones(config.channels[1]))

    @property
    def input_size(self) -> int:
        """Side of the pictures that ``forward`` takes: eight times that of the coarse map."""
        return 8 * self.config.side

    def hidden_weights(self) -> list[Tensor]:
        """The weights of convolutions between the first and the last ones, which Muon is for (Jordan 2024)."""
        outer = {self.stem, self.coarse, *([self.fine] if self.config.fine_width else [])}
        return [layer.weight for layer in self.modules() if isinstance(layer, nn.Conv2d) and layer not in outer]

    def in_units(self, residuals: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Residuals in units of the standard deviation of their map's channels, in float32."""
        units = {self.config.side: self.coarse_std, 2 * self.config.side: self.fine_std}
        return {side: residual.float() / units[side][:, None, None] for side, residual in residuals.items()}

    def rows(self, ws: Tensor) -> Tensor:
        """Rows ``[b k d]`` moved to their mean by the share of ``config.toward_w``: those that features are for."""
        share = self.config.toward_w
        return ws.lerp(ws.mean(1, keepdim=True).expand_as(ws), share) if share else ws

    def forward(self, images: Tensor, drawn: Tensor, features: Tensor) -> dict[int, Tensor]:
        """Residuals by the side of the map that they are added to: ``{s: [b c s s], 2s: [b c' 2s 2s]}``.

        ``images`` and ``drawn`` are the photographs and what their rows draw, ``[b 3 8s 8s]`` in [-1, 1]; ``features``
        ``[b c s s]`` is the generator's own map for these rows.
        """
        seen = F.pixel_unshuffle(torch.cat([images, 2 * (images - drawn)], 1), 2)
        middle = F.leaky_relu(self.to_middle(F.leaky_relu(self.stem(seen), SLOPE)), SLOPE)
        own = (features - self.coarse_mean[:, None, None]) / self.coarse_std[:, None, None]
        x = F.leaky_relu(self.units(self.to_coarse(middle) + self.from_map(own)), SLOPE)
        side, std = self.config.side, self.coarse_std[:, None, None]
        residuals: dict[int, Tensor] = {side: self.coarse(x) * std}
        if self.config.fine_width:
            y = F.leaky_relu(self.fine_units(F.pixel_shuffle(self.up(x), 2) + self.skip(middle)), SLOPE)
            residuals[2 * side] = self.fine(y) * self.fine_std[:, None, None]
        return residuals


def scaled(residuals: Mapping[int, Tensor], factor: float) -> dict[int, Tensor]:
    """All residuals times ``factor``: 0 is the rows' own picture, 1 the whole detail."""
    return {side: residual * factor for side, residual in residuals.items()}
