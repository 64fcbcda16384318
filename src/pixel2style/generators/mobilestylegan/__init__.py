"""MobileStyleGAN, the bundled generator."""
