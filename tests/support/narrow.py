"""The trunks of published encoders, a quarter as wide, for tests of files and runs to which width does not matter."""

import pytest

from pixel2style.models.backbones import ir_se, resnet34

NARROW, PUBLISHED = (16, 32, 64, 128), ir_se.STAGE_CHANNELS
"""Channels of the four stages."""


def narrow_trunks(patch: pytest.MonkeyPatch, channels: tuple[int, int, int, int] = NARROW) -> None:
    """Build IR-SE50 and ResNet-34 with a sixteenth of their weights under the same names, or with other ``channels``.

    A pyramid of 512 gets a convolution for the trunk's last map, which published ones do not need.
    """
    patch.setattr(ir_se, "STEM_CHANNELS", channels[0])
    for module, trunk in ((ir_se, ir_se.IRSE), (resnet34, resnet34.ResNet34)):
        patch.setattr(module, "STAGE_CHANNELS", channels)
        patch.setattr(trunk, "tap_channels", channels[1:])
