"""Super-resolution: a picture of few pixels to one of many (pSp, section 4.4).

Sources are targets that were reduced bicubically and enlarged again. A user's picture is taken to be small already,
unless ``--factor`` asks to reduce it.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..config import LossConfig, ModelConfig, SourceConfig
from ..errors import ConfigError
from . import recipes
from .task import OfficialDataset, Task, never

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .request import Photograph, Prepared, Request
    from .task import Degradation

LOSS = LossConfig(l2=1, lpips=0.8, identity=0.1, w_norm=0.005)


def degraded(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "tuple[Tensor, Degradation]":
    """``reduced``, and what reduces and enlarges by the same factor."""
    from . import degrade

    for factor in config.factors:  # all of them, so that a wrong one is found at the first picture
        if target.shape[-1] % factor:
            raise ConfigError(f"{factor} does not divide {target.shape[-1]} pixels: choose other --source.factors")
    reduce = partial(degrade.low_resolution, factor=degrade.choose(config.factors, rng, "factors"))
    return reduce(target), reduce


def reduced(target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """The target reduced by one of ``config.factors`` and enlarged again: ``[3 s s]``."""
    return degraded(target, rng, config)[0]


def prepare(photograph: "Photograph", request: "Request", config: ModelConfig) -> "Prepared":
    """The aligned photograph reduced by ``request.factor``, or as small as it is, enlarged to 256 pixels."""
    from PIL import Image

    from .. import images
    from ..ops import COMPARE_SIZE
    from . import degrade
    from .request import Prepared

    full = (COMPARE_SIZE, COMPARE_SIZE)
    if request.factor is None:
        side = min(photograph.frame.side, COMPARE_SIZE)
        small = photograph.cut(side).resize(full, Image.Resampling.BICUBIC)
        return Prepared(images.to_tensor(small), small, partial(degrade.resized_down, side=side))
    target = images.to_tensor(photograph.cut(config.generator.size).resize(full, Image.Resampling.BICUBIC))
    reduce = partial(degrade.low_resolution, factor=request.factor)
    source = reduce(target)
    return Prepared(source, images.to_picture(source), reduce)


def shown(sources: "Tensor", drawn: "Tensor", degradation: "Degradation | None") -> "Tensor":
    """Drawn pictures with their low frequencies replaced by those of the sources ``[b 3 s s]`` (back-projection)."""
    from ..images import resize

    if degradation is None:
        return sources
    drawn = resize(drawn, sources.shape[-1])
    return (drawn + sources - degradation(drawn)).clamp(-1, 1)


def check_request(request: "Request", config: ModelConfig) -> None:
    """The factor has to divide 256 pixels."""
    from ..ops import COMPARE_SIZE

    factor = request.factor
    if factor is not None and (factor not in range(1, COMPARE_SIZE) or COMPARE_SIZE % factor):
        raise ConfigError(f"--factor must divide {COMPARE_SIZE} pixels, and {factor!r} does not: choose 8, 16 or 32")
    request.require_square(config)


def official_settings(options: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Official files list the factors in ``resize_factors``, separated by commas."""
    text = str(options.get("resize_factors"))
    listed = re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3}){0,20}", text)
    return {"factors": tuple(int(factor) for factor in text.split(","))} if listed else {}


def official_options(config: SourceConfig) -> dict[str, Any]:
    """The factors as official files list them."""
    return {"resize_factors": ",".join(map(str, config.factors))}


TASK = Task(
    "a picture of few pixels to one of many",
    presets=recipes.presets(
        "superres", "small picture -> large one", recipes.paper("superres", LOSS), recipes.compact("superres", LOSS)
    ),
    refinable=True,
    shown=shown,
    degraded=degraded,
    source=reduced,
    prepare=prepare,
    options={"factor": "first make the photograph this many times smaller than 256 pixels. Left out: it is small."},
    random=never,
    check_request=check_request,
    official=OfficialDataset("celebs_super_resolution", ("psp",), settings=official_settings, options=official_options),
)
