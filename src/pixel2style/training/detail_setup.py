"""The model of a detail run: frozen encoder and generator, and a detail encoder that is new, or continued.

Axes: ``c`` channels of a map.
"""

from dataclasses import replace

import torch

from .. import checkpoints
from ..checkpoints import detail as detail_files
from ..config import DetailConfig, DetailShape, TrainConfig
from ..errors import ConfigError
from ..generators import sampling
from ..models.detail import DetailEncoder
from ..models.psp import PSP
from ..tasks import find_task
from .dataset import step_rng

SHAPE = tuple(DetailShape.__dataclass_fields__)
DEFAULT_MODEL = "faces"
"""The model of a detail encoder that is given alone."""
SAMPLES, AT_ONCE, TRUNCATION = 64, 4, 0.8
"""Generated pictures whose maps are measured, how many of them at once, and how far they are from the average."""


def model_source(config: TrainConfig) -> str:
    """The model that a detail run is for: ``start_from``, or ``DEFAULT_MODEL`` if that is a detail encoder alone."""
    start = config.start_from or DEFAULT_MODEL
    return DEFAULT_MODEL if detail_files.alone(start) else start


def model(config: TrainConfig) -> PSP:
    """The model of ``start_from``, frozen, with the detail encoder that is to be trained.

    Raises ConfigError where the model is of another task, or has no maps of the right sides.
    """
    start, source = config.start_from or DEFAULT_MODEL, model_source(config)
    found = checkpoints.load(source).requires_grad_(False)
    if found.config.task != config.task:
        raise ConfigError(
            f"{source} was trained for {found.config.task}, not for {config.task}: add --task {found.config.task}, or "
            "start from another model"
        )
    height, width = found.encoder.config.input_shape
    if height != width:
        raise ConfigError(f"{source} reads {width} x {height} pixels: detail encoders are for square pictures")
    own = checkpoints.load_detail(start) if source != start else found.detail
    if own is None or config.detail.start == "new":
        made = new_detail(config, found)
    else:
        made = own
        _check_own(config, own, found)
    config_of = replace(found.config, detail=made.config)
    return PSP(found.encoder, found.generator, config_of, found.w_avg, found.w_unit, detail=made)


def _check_own(config: TrainConfig, own: DetailEncoder, found: PSP) -> None:
    """Raise ConfigError unless the detail encoder that is to be continued fits the model and the options."""
    given = {name: getattr(config.detail, name) for name in SHAPE}
    shape = {name: getattr(own.config, name) for name in SHAPE}
    if given not in (shape, {name: getattr(DetailShape(), name) for name in SHAPE}):
        raise ConfigError(
            f"{config.start_from} has a detail encoder of another shape: leave out --detail.width and the like, or add "
            "--detail.start new"
        )
    if not own.config.fits(found.generator.map_channels()):
        raise ConfigError(f"{config.start_from} is for other maps than those of {DEFAULT_MODEL}'s generator")


@torch.no_grad()
def new_detail(config: TrainConfig, found: PSP) -> DetailEncoder:
    """An untrained network, with the mean and deviation of the maps of some of the generator's own pictures.

    Raises ConfigError where the generator has no map of the side that is asked for.
    """
    generator, shape = found.generator, {name: getattr(config.detail, name) for name in SHAPE}
    side, maps = config.detail.side, generator.map_channels()
    sides = DetailConfig(**shape).sides
    if any(each not in maps for each in sides):
        known = f"it has those of {', '.join(map(str, maps))}" if maps else "it has none"
        raise ConfigError(
            f"the generator has no maps of {' and '.join(map(str, sides))} pixels for residuals, {known}: choose "
            "another --detail.side, or --detail.fine-width 0 for the coarse map alone"
        )
    channels = maps[side], maps.get(2 * side, maps[side])
    needs_task = not find_task(config.task).inverts
    made = DetailEncoder(DetailConfig(**shape, channels=channels, needs_task=needs_task))
    w = sampling.draw(generator, SAMPLES, step_rng(config.seed, 0), found.w_unit, truncation=TRUNCATION)
    ws = w[:, None].expand(-1, generator.rows, -1)
    coarse, *fine = (torch.cat([generator.features(some, each) for some in torch.split(ws, AT_ONCE)]) for each in sides)
    made.coarse_mean = coarse.float().mean((0, 2, 3))
    made.coarse_std = _deviation(coarse)
    if fine:
        made.fine_std = _deviation(fine[0])
    return made


def _deviation(maps: torch.Tensor) -> torch.Tensor:
    """The standard deviation of each channel: ``[n c s s] -> [c]``; not 0 where a channel is constant."""
    return maps.float().std((0, 2, 3)).clamp(min=1e-3)
