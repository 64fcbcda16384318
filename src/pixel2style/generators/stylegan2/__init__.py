"""StyleGAN2 and StyleGAN2-ADA: network, discriminator, and readers and writers of their published files."""

from ..published import Published
from . import nvidia, rosinality
from .network import StyleGAN2

PUBLISHED = (
    Published(
        kind="stylegan2",
        about="a StyleGAN2 generator",
        network=StyleGAN2,
        keys=("to_rgb1.conv.weight", "conv1.conv.weight"),
        parts=(),
        read=lambda weights, average, arguments, source: rosinality.generator(
            rosinality.plain(weights), average, source
        ),
        layout="rosinality",
        refuse=rosinality.refuse,
        write=rosinality.state,
    ),
    Published(
        kind="nvidia2",
        about="a StyleGAN2-ADA generator",
        network=StyleGAN2,
        keys=("synthesis.b4.const",),
        parts=("mapping.", "synthesis."),
        read=lambda weights, average, arguments, source: nvidia.stylegan2(weights, arguments, source),
        layout="nvidia-state",
        refuse=nvidia.refuse,
        write=lambda generator: nvidia.file_content(*nvidia.stylegan2_state(generator)),
    ),
)

__all__ = ["PUBLISHED", "StyleGAN2"]
