"""StyleGAN2 and StyleGAN2-ADA: network, discriminator, and readers and writers of their published files."""

from .network import StyleGAN2

__all__ = ["StyleGAN2"]
