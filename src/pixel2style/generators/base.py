"""What every generator is: noise to rows, rows to pictures.

Axes: ``b`` batch, ``n`` numbers of noise, ``c`` numbers of a label, ``k`` rows, ``d`` width of a row.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..config import GeneratorConfig


class Generator(nn.Module, ABC):
    """A frozen network from rows of W+ to pictures.

    Its parameters ask for no gradient, so a backward pass reaches the rows and computes nothing for weights; to tune
    one, call ``requires_grad_(True)``. The same rows always give the same picture, whatever else is in the batch.
    ``w_avg`` ``[d]`` is the mean of W; zero until a file or ``sampling.average_w`` fills it.
    """

    config: GeneratorConfig
    rows: int
    """Style inputs: how many rows one picture takes."""
    width: int
    """Numbers in a row."""
    size: int
    """Side of the full picture, pixels."""
    w_avg: Tensor

    @abstractmethod
    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Normal noise ``[b n]`` to W: ``[b d]``.

        ``truncation`` below 1 pulls the result towards ``w_avg`` (StyleGAN, section B). ``labels`` ``[b c]`` go to a
        class-conditional generator, and to no other; ``sampling.draw`` makes both. Raises ConfigError for noise or
        labels that do not fit.
        """

    @abstractmethod
    def synthesize(self, ws: Tensor, size: int | None = None) -> Tensor:
        """Rows ``[b k d]``, or ``[b d]`` for every row alike, to pictures ``[b 3 size size]``: RGB, about [-1, 1].

        ``size`` is at most the full one, which is the default. Raises ConfigError where rows or size do not fit.
        """

    def row_unit(self) -> Tensor | None:
        """The standard deviation of W along each axis, ``[d]``, where it is known."""
        return None
