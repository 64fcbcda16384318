"""The base class of generators: noise to latents, rows of latents to images.

Axes: ``b`` batch, ``n`` numbers of noise, ``c`` classes, ``k`` rows, ``d`` width of a row.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..config import GeneratorConfig


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
    w_avg: Tensor

    @abstractmethod
    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Normal noise ``[b n]`` to latents ``[b d]``.

        ``truncation`` below 1 moves them towards ``w_avg`` (StyleGAN, section B). Only class-conditional generators
        take ``labels`` ``[b c]``. ``sampling.draw`` makes noise and labels. Raises ConfigError for noise or labels that
        do not fit.
        """

    @abstractmethod
    def synthesize(self, ws: Tensor, size: int | None = None) -> Tensor:
        """Rows ``[b k d]``, or ``[b d]`` for all rows alike, to images ``[b 3 size size]``: RGB, about [-1, 1].

        ``size`` is at most the full size, the default. Raises ConfigError where rows or size do not fit.
        """

    def row_unit(self) -> Tensor | None:
        """The standard deviation of W along each axis, ``[d]``, where it is known."""
        return None
