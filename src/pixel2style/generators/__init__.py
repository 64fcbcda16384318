"""Generators: rows of W+ to pictures. One folder each, and one line in ``GENERATORS``."""

from .base import Generator
from .mobilestylegan.network import MobileStyleGAN
from .stylegan2.network import StyleGAN2
from .stylegan3.network import StyleGAN3

GENERATORS: dict[str, type[Generator]] = {
    "stylegan2": StyleGAN2,
    "mobilestylegan": MobileStyleGAN,
    "stylegan3": StyleGAN3,
}
"""Classes by ``GeneratorConfig.kind``."""

__all__ = ["GENERATORS", "Generator", "MobileStyleGAN", "StyleGAN2", "StyleGAN3"]
