"""What a run is before its first step: device, model, optimiser, judges and pictures, as its configuration says.

An encoder starts from a model that reads other pictures too: its first layer is made to see sketches, label maps and
masked pictures as pictures (``models.input_channels``). This module does not know how a step is taken (``learning``).

Axes: ``c`` channels, ``k`` rows, ``d`` width of a row.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from .. import checkpoints
from ..checkpoints import foreign
from ..config import EncoderConfig, EncoderShape, ModelConfig, TrainConfig
from ..errors import ConfigError
from ..metrics.losses import Objective
from ..models import encoders, input_channels
from ..models.backbones import mobilefacenet
from ..models.encoders import Encoder
from ..models.psp import PSP
from ..tasks import channels_of, find_task
from .dataset import Pictures
from .memory import Shelf, StepInBackward
from .step import State, Teacher

if TYPE_CHECKING:
    from accelerate import Accelerator

SHAPE = tuple(EncoderShape.__dataclass_fields__)
Network = TypeVar("Network", bound=nn.Module)


def start(config: TrainConfig, accelerator: "Accelerator") -> State:
    """A fresh state: ``start_from``, or a new encoder on the trunk of an identity network where there is one.

    Raises ConfigError for settings that cannot work together, CheckpointError for files that cannot be read.
    """
    torch.manual_seed(config.seed)
    model = laid_out(grown(config) if config.start_from else newborn(config), accelerator.device)
    model.config = replace(
        model.config,
        iterations=config.iterations,
        task=config.task,
        source=config.source,
    )
    if config.iterations > 1 and not model.corrects_itself:
        raise ConfigError(f"{config.start_from} does not see what it drew: add --iterations 1")
    height, width = model.encoder.config.input_shape
    if height != width and find_task(config.task).faces:
        raise ConfigError(
            f"{config.task} shows aligned faces, which are square, and this encoder reads {width} x {height} pixels: "
            "train domain, or leave out --encoder.input-height and start from a model of faces"
        )
    encoder = model.encoder.train().requires_grad_(True)
    encoder.recompute = config.checkpointing
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model.encoder = encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)  # type: ignore[no-untyped-call]
    average = copy.deepcopy(encoder).requires_grad_(False).eval() if config.ema else encoder
    bank = torch.zeros(config.batch, *model.w_avg.shape, device=accelerator.device)
    return State(model, average, optimizer_of(encoder, config, accelerator), bank)


def optimizer_of(
    encoder: Encoder, config: TrainConfig, accelerator: "Accelerator"
) -> torch.optim.Optimizer | StepInBackward:
    """The optimiser of an encoder's weights."""

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return OPTIMIZERS[config.optimizer](parameters, config.lr)

    if config.frugal:
        near = next(
            place for place in (Path(config.out).absolute(), *Path(config.out).absolute().parents) if place.exists()
        )
        return StepInBackward(encoder.parameters(), make, Shelf(near) if accelerator.device.type == "cpu" else None)
    return cast(torch.optim.Optimizer, accelerator.prepare_optimizer(make(encoder.parameters())))


def _ranger(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import Ranger

    # not foreach: that copies every weight once more, a gigabyte at paper size
    return cast(torch.optim.Optimizer, Ranger(parameters, lr, betas=(0.95, 0.999), eps=1e-5, foreach=False))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "ranger": _ranger,
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr, (0.9, 0.99), weight_decay=1e-3),
}


def newborn(config: TrainConfig) -> PSP:
    """A model before its first lesson. Raises ConfigError where encoder and generator do not fit."""
    generator = checkpoints.load_generator(config.generator or checkpoints.DEFAULT_GENERATOR)
    channels = channels_of(config.task, config.source)
    shape = {name: getattr(config.encoder, name) for name in SHAPE}
    try:
        complete = EncoderConfig(
            **shape, input_channels=channels + 3 * config.feedback, rows=generator.rows, width=generator.width
        )
        encoder = encoders.build(replace(complete, input_channels=3 + 3 * config.feedback))
        _educate(encoder, config.trunk_weights)
        encoder = input_channels.adapt(encoder, complete, find_task(config.task).classes)
        made = ModelConfig(complete, generator.config, feedback=config.feedback)
        return PSP(encoder, generator, made, generator.w_avg, generator.row_unit())
    except ValueError as error:
        raise ConfigError(f"{error}: change --encoder") from error


def grown(config: TrainConfig) -> PSP:
    """The model that ``start_from`` names, reading what the task has it read, into the generator that is asked for.

    Where that one has other rows, what reads rows off shared maps is new, and all below it is taken over. Raises
    ConfigError for an encoder of another shape than the model's, and for a model of another kind of source.
    """
    model = checkpoints.load(cast(str, config.start_from))
    task, channels = find_task(config.task), channels_of(config.task, config.source)
    _agree(config, model, channels)
    generator = checkpoints.load_generator(config.generator) if config.generator else model.generator
    drawn = generator
    here = model.encoder.config
    complete = replace(here, input_channels=channels + 3 * model.corrects_itself)
    encoder = model.encoder
    if model.config.task != config.task or complete != here:
        encoder = input_channels.adapt(encoder, complete, task.classes)
    if (drawn.rows, drawn.width) != (here.rows, here.width):
        encoder = _with_rows(encoder, drawn.rows, drawn.width)
    made = replace(model.config, encoder=encoder.config, generator=drawn.config)
    if not config.generator:
        return PSP(encoder, generator, made, model.w_avg, model.w_unit)
    return PSP(encoder, generator, made, generator.w_avg, generator.row_unit())


def _agree(config: TrainConfig, model: PSP, channels: int) -> None:
    """Raise ConfigError where the configuration and the model that it starts from say different things."""
    shape = EncoderShape(**{name: getattr(model.encoder.config, name) for name in SHAPE})
    if config.encoder not in (EncoderShape(), shape):
        raise ConfigError(
            f"{config.start_from} has an encoder of its own shape: leave out --encoder, or --start-from None"
        )
    if config.feedback and not model.corrects_itself:
        raise ConfigError(f"{config.start_from} does not see what it drew: add --no-feedback --iterations 1")
    if model.config.task != config.task and model.source_channels != 3:
        raise ConfigError(
            f"{config.start_from} was taught {model.config.task} and reads {model.source_channels} channels: start "
            f"{config.task} from a model of photographs"
        )
    if model.config.task == config.task and channels != model.source_channels:
        raise ConfigError(
            f"{config.start_from} reads {model.source_channels} channels, these sources have {channels}: start from "
            "a model of photographs"
        )


def _with_rows(encoder: Encoder, rows: int, width: int) -> Encoder:
    """An encoder of other rows with all weights of ``encoder`` that it has a place for."""
    made = encoders.build(replace(encoder.config, rows=rows, width=width))
    places = made.state_dict()
    kept = {name: value for name, value in encoder.state_dict().items() if name in places}
    made.load_state_dict(places | {name: value for name, value in kept.items() if value.shape == places[name].shape})
    return made


TRUNKS: dict[str, Callable[[str | Path], nn.Module]] = {
    "ir_se50": foreign.load_arcface,
    "resnet34": foreign.load_resnet,
}
"""Who reads the files that trunks start from."""


def _educate(encoder: Encoder, trunk_weights: str | None) -> None:
    """Start the trunk from a network that has seen pictures: the bundled one, or the file of the published ones.

    Channels that it has never seen (its reconstruction) count for nothing at first. Raises CheckpointError for a file
    of another network.
    """
    if isinstance(encoder.trunk, mobilefacenet.MobileFaceNet):
        input_channels.load_trunk(encoder.trunk, mobilefacenet.pretrained(embed=False).state_dict())
    elif trunk_weights is not None:
        input_channels.load_trunk(encoder.trunk, TRUNKS[encoder.config.trunk](trunk_weights).state_dict())


def laid_out(module: Network, device: torch.device) -> Network:
    """Move a network; channels last where it pays: on CPUs. On an H100 cuDNN's kernels take seconds to build for it."""
    return module.to(device).to(memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format)


def judged_by(config: TrainConfig, device: torch.device) -> Objective:
    """The losses of a run, on its device, with the networks that its files hold.

    Raises CheckpointError for files that hold none.
    """
    loss = config.loss
    face, look = loss.identity_network, loss.similarity_network
    identity = foreign.load_arcface(face) if loss.identity and face != "mobilefacenet" else None
    similarity = foreign.load_moco(look) if loss.similarity and look != "alex" else None
    return laid_out(Objective(loss, identity=identity, similarity=similarity), device)


def training_pictures(config: TrainConfig, input_size: int) -> Pictures:
    """The run's own pictures. Raises ConfigError with whatever is wrong with them."""
    return Pictures(
        config.data, config.targets, find_task(config.task), config.source,
        side=input_size, mirror=config.mirror, augment=config.augment, readers=config.readers, memory=config.memory,
    )  # fmt: skip


def validation_pictures(config: TrainConfig, input_size: int) -> Pictures | None:
    """The pictures that judge the run, None where it has none. Raises as ``training_pictures`` does."""
    if not config.validation:
        return None
    return Pictures(
        config.validation, config.validation_targets, find_task(config.task), config.source,
        side=input_size, mirror=False, augment=False, readers=config.readers, memory=config.memory,
    )  # fmt: skip


def appoint(config: TrainConfig, state: State, pictures: Pictures, accelerator: "Accelerator") -> Teacher:
    """The teacher of a run."""
    generator = state.model.generator
    size = None if config.full_size else state.model.compare_size

    def draw(ws: Tensor) -> Tensor:
        return generator.synthesize(ws, size)

    if config.compile:
        if accelerator.device.type != "cpu":  # there the compiler's depthwise kernels are slower than `adjoint`
            draw = torch.compile(draw, dynamic=False)
        state.model.encoder.compile(dynamic=False)
    objective = judged_by(config, accelerator.device)
    return Teacher(config, find_task(config.task), objective, pictures, draw, accelerator)
