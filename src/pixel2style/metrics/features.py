"""``pixel2style.features``: the public names for comparing images by network features."""

from .identity import Identity
from .lpips import LPIPS

__all__ = ["LPIPS", "Identity"]
