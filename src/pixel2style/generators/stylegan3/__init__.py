"""StyleGAN3 T and R: network, filters, and the reader and writer of its published files."""

from ..published import Published
from ..stylegan2.nvidia import file_content
from . import nvidia
from .network import StyleGAN3

PUBLISHED = (
    Published(
        kind="nvidia3",
        about="a StyleGAN3 generator",
        network=StyleGAN3,
        keys=("synthesis.input.freqs",),
        parts=("mapping.", "synthesis."),
        read=lambda weights, average, arguments, source: nvidia.stylegan3(weights, arguments, source),
        layout="nvidia-state",
        refuse=nvidia.refuse,
        write=lambda generator: file_content(*nvidia.stylegan3_state(generator)),
    ),
)

__all__ = ["PUBLISHED", "StyleGAN3"]
