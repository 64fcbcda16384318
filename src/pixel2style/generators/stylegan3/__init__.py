"""StyleGAN3 T and R: network, filters, and the reader and writer of its published files."""

from .network import StyleGAN3

__all__ = ["StyleGAN3"]
