"""Generators: rows of W+ to images. Each is one folder with its network and its files' readers and writers.

To add a generator, add its folder, its class to ``GENERATORS`` and, if others publish it, its layouts to ``PUBLISHED``.
"""

from ..config import GeneratorConfig
from ..errors import ConfigError
from . import stylegan2, stylegan3
from .base import Generator
from .mobilestylegan import MobileStyleGAN
from .published import Published
from .stylegan2 import StyleGAN2
from .stylegan3 import StyleGAN3

GENERATORS: dict[str, type[Generator]] = {
    "stylegan2": StyleGAN2,
    "mobilestylegan": MobileStyleGAN,
    "stylegan3": StyleGAN3,
}
"""Classes by ``GeneratorConfig.kind``."""

PUBLISHED: dict[str, Published] = {layout.kind: layout for layout in (*stylegan2.PUBLISHED, *stylegan3.PUBLISHED)}
"""Layouts of other projects' files by kind, in the order in which they are searched."""


def build(config: GeneratorConfig) -> Generator:
    """The generator of ``config``, frozen, without weights. Raises ConfigError or ValueError for an impossible one."""
    if config.kind not in GENERATORS:
        raise ConfigError(f"there is no generator of kind {config.kind[:40]!r}: choose one of {', '.join(GENERATORS)}")
    return GENERATORS[config.kind](config)


__all__ = ["GENERATORS", "PUBLISHED", "Generator", "MobileStyleGAN", "Published", "StyleGAN2", "StyleGAN3", "build"]
