"""The base class of generators: noise to latents, rows of latents to images.

Axes: ``b`` batch, ``n`` numbers of noise, ``c`` classes, ``k`` rows, ``d`` width of a row.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from ..config import GeneratorConfig
from ..errors import ConfigError

Residuals = Mapping[int, Tensor]
"""What is added to a generator's maps, ``[b c s s]`` by their side ``s``."""
NO_RESIDUALS: Residuals = {}
Change = Callable[[int, Tensor], Tensor]
"""The side of a map, and the map ``[b c s s]``, to what a generator goes on with: ``[b c s s]``."""


class Generator(nn.Module, ABC):
    """A frozen network from rows of W+ to images.

    Gradients are computed for rows but not for weights, unless ``requires_grad_(True)`` is called. The same rows always
    give the same image, independent of the rest of the batch. ``w_avg`` ``[d]`` is the mean of W; it is zero until a
    file or ``sampling.average_w`` fills it.
    """

    config: GeneratorConfig
    rows: int
    """Number of style inputs, the rows of one image."""
    width: int
    """Numbers in a row."""
    size: int
    """Side of the full image, in pixels."""
    fits_bf16 = False
    """Whether previews may be drawn by the whole network in bfloat16: half a level of 255 off, on average."""
    w_avg: Tensor

    @abstractmethod
    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Normal noise ``[b n]`` to latents ``[b d]``.

        ``truncation`` below 1 moves them towards ``w_avg`` (StyleGAN, section B). Only class-conditional generators
        take ``labels`` ``[b c]``. ``sampling.draw`` makes noise and labels. Raises ConfigError for noise or labels that
        do not fit.
        """

    @abstractmethod
    def synthesize(self, ws: Tensor, size: int | None = None, *, residuals: Residuals = NO_RESIDUALS) -> Tensor:
        """Rows ``[b k d]``, or ``[b d]`` for all rows alike, to images ``[b 3 size size]``: RGB, about [-1, 1].

        ``size`` is at most the full one, which is the default. ``residuals`` ``[b c s s]`` are added to the maps of
        their side (``map_channels`` lists these), as in F/W+ space (BDInvert, arXiv 2112.07917). Raises ConfigError
        where rows, size or residuals do not fit.
        """

    def mix_precision(self) -> None:
        """From now on compute on a CPU in bfloat16 what hardly changes pictures: by default nothing."""

    def features(self, ws: Tensor, side: int, *, residuals: Residuals = NO_RESIDUALS) -> Tensor:
        """The map of ``side`` pixels, ``residuals`` added to it and to those before: ``[b k d] -> [b c side side]``.

        Raises ConfigError where there is no such map, or a residual does not fit.
        """
        self.check_side(side)
        self.check_residuals(residuals, ws)
        return self.through(ws, side, adding(residuals))

    def through(self, ws: Tensor, side: int, change: Change, start: Tensor | None = None) -> Tensor:
        """The map of ``side`` pixels, ``change`` applied to it and to those before: ``[b k d] -> [b c side side]``.

        Of several maps, as they are or as they are wanted, this costs no more than the last one. From the map ``start``
        ``[b c s s]`` of a smaller side on, only those after it are computed. Raises ConfigError where there is no such
        map: in a generator that does not override this, there is none.
        """
        self.check_side(side)
        raise NotImplementedError

    def draw(self, ws: Tensor, maps: Residuals, size: int | None = None) -> Tensor:
        """``synthesize`` with ``maps`` ``[b c s s]``, by their side ``s``, in place of the generator's own.

        Raises ConfigError where rows, size or maps do not fit.
        """
        self.check_residuals(maps, ws)
        if maps:
            raise NotImplementedError
        return self.synthesize(ws, size)

    def map_channels(self) -> dict[int, int]:
        """Channels of the maps that residuals can be added to, by their side; empty where there are none."""
        return {}

    def check_residuals(self, residuals: Residuals, ws: Tensor) -> None:
        """Raise ConfigError unless all ``residuals`` fit maps of this generator, for as many pictures as ``ws``."""
        for side, residual in residuals.items():
            self.check_side(side)
            wanted = [ws.shape[0], self.map_channels()[side], side, side]
            if list(residual.shape) != wanted:
                raise ConfigError(f"a residual of the map of {side} pixels is {wanted}, got {list(residual.shape)}")

    def style_matrices(self) -> list[list[Tensor]]:
        """For each row the matrices ``[c d]`` that map it to the styles of layers; empty where they are not listed."""
        return []

    def row_unit(self) -> Tensor | None:
        """The standard deviation of W along each axis, ``[d]``, where it is known."""
        return None

    def check_side(self, side: int) -> None:
        """Raise ConfigError unless there is a map of ``side`` pixels that residuals can be added to."""
        sides = list(self.map_channels())
        if side not in sides:
            known = f"choose one of {', '.join(map(str, sides))}" if sides else "use its rows alone"
            raise ConfigError(f"this generator has no map of {side} pixels for residuals: {known}")


def adding(residuals: Residuals) -> Change:
    """The change of maps that adds what there is for their side."""
    return lambda side, maps: maps + residuals[side].to(maps.dtype) if side in residuals else maps
