"""MobileStyleGAN, the bundled generator: network, hand-written backward passes (``adjoint``), strips."""

from .network import MobileStyleGAN

__all__ = ["MobileStyleGAN"]
