"""Fixtures of the tests of metrics."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def astronaut():
    """A real face (NASA, public domain) in about the place where the FFHQ crop has it: ``[1 3 256 256]``."""
    with Image.open(ROOT / "examples" / "astronaut.png") as photo:
        side = photo.width / 512
        box = tuple(round(edge * side) for edge in (136, 8, 316, 188))
        face = photo.convert("RGB").crop(box).resize((256, 256), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(face)).permute(2, 0, 1)[None] / 127.5 - 1
