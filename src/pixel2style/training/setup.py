"""A run before its first step: model, optimiser, losses, pictures and context, as its configuration says.

An encoder can start from a model that reads other pictures: its first layer is then changed so that sketches, label
maps and masked pictures look like photographs to it (``models.input_channels``). The model of a detail encoder is in
``detail_setup``.

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
from ..models.detail import DetailEncoder
from ..models.encoders import Encoder
from ..models.psp import PSP
from ..tasks import channels_of, find_task
from . import detail_setup
from .batches import ReadAhead
from .dataset import Pictures
from .memory import StepInBackward
from .state import State, TrainContext
from .steps import Step
from .steps.detail import DetailStep
from .steps.encoder import EncoderStep
from .steps.frozen import FrozenNetworks
from .steps.rows import RowTargets

if TYPE_CHECKING:
    from accelerate import Accelerator

SHAPE = tuple(EncoderShape.__dataclass_fields__)
MUON_FACTOR = 1.5
"""Muon's learning rate over that of AdamW."""
Network = TypeVar("Network", bound=nn.Module)


def initial_state(config: TrainConfig, accelerator: "Accelerator") -> State:
    """The state before the first step: ``start_from``, or a new encoder, on a pretrained trunk where there is one.

    Raises ConfigError for settings that cannot work together, CheckpointError for files that cannot be read.
    """
    torch.manual_seed(config.seed)
    detail = config.network == "detail"
    model = to_device(detail_setup.model(config) if detail else _encoder_model(config), accelerator.device)
    trained = model.encoder if model.detail is None else model.detail
    trained.train().requires_grad_(True)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda" and not detail:
        model.encoder = trained = nn.SyncBatchNorm.convert_sync_batchnorm(model.encoder)  # type: ignore[no-untyped-call]
    average = copy.deepcopy(trained).requires_grad_(False).eval() if config.ema else trained
    bank = torch.zeros(config.batch, *model.w_avg.shape, device=accelerator.device)
    return State(model, average, make_optimizer(trained, config, accelerator), bank)


def _encoder_model(config: TrainConfig) -> PSP:
    """The model whose encoder is trained. Raises as ``initial_state`` does."""
    model = from_checkpoint(config) if config.start_from else new_model(config)
    model.config = replace(model.config, iterations=config.iterations, task=config.task, source=config.source)
    if config.iterations > 1 and not model.corrects_itself:
        raise ConfigError(f"{config.start_from} does not read its own reconstruction: add --iterations 1")
    height, width = model.encoder.config.input_shape
    if height != width and find_task(config.task).faces:
        raise ConfigError(
            f"{config.task} is for aligned faces, which are square, and this encoder reads {width} x {height} pixels: "
            "choose a task that is not for faces, or leave out --encoder.input-height and start from a model of faces"
        )
    model.encoder.recompute = config.checkpointing
    return model


def build_context(config: TrainConfig, state: State, pictures: Pictures, accelerator: "Accelerator") -> TrainContext:
    """What stays the same during a run.

    With ``config.compile`` this compiles what is trained and, for an encoder on a GPU, the generator.

    Raises ConfigError for losses that exclude each other, CheckpointError for files of loss networks.
    """
    generator = state.model.generator
    size = None if config.full_size else state.model.compare_size

    def draw(ws: Tensor) -> Tensor:
        return generator.synthesize(ws, size)

    if config.compile:
        if (
            accelerator.device.type != "cpu" and state.model.detail is None
        ):  # on CPUs compiled depthwise kernels are slower than our backward pass
            draw = torch.compile(draw, dynamic=False)
        state.network.compile(dynamic=False)
    batches = ReadAhead(pictures, config, accelerator)
    objective = make_objective(config, accelerator.device)
    task = find_task(config.task)
    rows = RowTargets(_teacher(config), state.model, config) if state.step < config.rows_until else None
    step: Step = EncoderStep(rows)
    if state.model.detail is not None:
        step = DetailStep(FrozenNetworks(state.model, objective, pictures, config, task))
    return TrainContext(config, task, objective, pictures, batches, draw, accelerator, step)


def _teacher(config: TrainConfig) -> PSP:
    """The model that rows are compared with. Raises CheckpointError, and ConfigError for a generator."""
    teacher = checkpoints.load(config.teacher)
    if not isinstance(teacher, PSP):
        raise ConfigError(f"--teacher {config.teacher} is a generator: name a model of photographs")
    return teacher


def training_pictures(config: TrainConfig, model: PSP) -> Pictures:
    """The pictures to train on. Raises ConfigError for files that cannot be used."""
    return Pictures(
        config.data, config.targets, find_task(config.task), config.source,
        side=model.encoder.config.input_size, mirror=config.mirror, augment=config.augment, readers=config.readers,
        memory=config.memory,
    )  # fmt: skip


def validation_pictures(config: TrainConfig, model: PSP) -> Pictures | None:
    """The validation pictures, None where the run has none. Raises ConfigError as ``training_pictures`` does."""
    if not config.validation:
        return None
    return Pictures(
        config.validation, config.validation_targets, find_task(config.task), config.source,
        side=model.encoder.config.input_size, mirror=False, augment=False, readers=config.readers,
        memory=config.memory,
    )  # fmt: skip


def make_objective(config: TrainConfig, device: torch.device) -> Objective:
    """The losses of a run, on its device. Raises CheckpointError for files that do not hold the network they should."""
    loss = config.loss
    identity = similarity = None
    if loss.identity and loss.identity_network != "mobilefacenet":
        identity = foreign.load_arcface(loss.identity_network)
    if loss.similarity and loss.similarity_network != "alex":
        similarity = foreign.load_moco(loss.similarity_network)
    return to_device(Objective(loss, identity=identity, similarity=similarity), device)


def make_optimizer(
    network: Encoder | DetailEncoder, config: TrainConfig, accelerator: "Accelerator"
) -> torch.optim.Optimizer | StepInBackward:
    """The optimiser of a network's weights."""
    if config.optimizer == "muon" and isinstance(network, DetailEncoder):
        made = _muon(network, config.lr)
        return cast(torch.optim.Optimizer, accelerator.prepare_optimizer(made))

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return OPTIMIZERS[config.optimizer](parameters, config.lr)

    if config.frugal:
        return StepInBackward(network.parameters(), make)
    return cast(torch.optim.Optimizer, accelerator.prepare_optimizer(make(network.parameters())))


def _muon(network: DetailEncoder, lr: float) -> torch.optim.Optimizer:
    """Muon (Jordan 2024) for hidden convolutions, steps as long as Adam's (arXiv 2502.16982); AdamW for the rest."""
    from pytorch_optimizer import Muon

    hidden = network.hidden_weights()
    chosen = {id(weight) for weight in hidden}
    rest = [weight for weight in network.parameters() if id(weight) not in chosen]
    groups = [
        {"params": rest, "use_muon": False, "lr": lr, "betas": (0.9, 0.99), "eps": 1e-8},
        {"params": hidden, "use_muon": True, "lr": lr, "lr_factor": MUON_FACTOR, "use_adjusted_lr": True},
    ]
    return cast(torch.optim.Optimizer, Muon(groups))


def _ranger(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import Ranger

    # not foreach: that copies every weight once more, a gigabyte at paper size
    return cast(torch.optim.Optimizer, Ranger(parameters, lr, betas=(0.95, 0.999), eps=1e-5, foreach=False))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "ranger": _ranger,
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr, (0.9, 0.99), weight_decay=1e-3),
}


def new_model(config: TrainConfig) -> PSP:
    """A model with a new encoder. Raises ConfigError where encoder and generator do not fit."""
    generator = checkpoints.load_generator(config.generator or checkpoints.DEFAULT_GENERATOR)
    channels = channels_of(config.task, config.source)
    shape = {name: getattr(config.encoder, name) for name in SHAPE}
    try:
        complete = EncoderConfig(
            **shape, input_channels=channels + 3 * config.feedback, rows=generator.rows, width=generator.width
        )
        encoder = encoders.build(replace(complete, input_channels=3 + 3 * config.feedback))
        load_trunk(encoder, config.trunk_weights)
        encoder = input_channels.adapt(encoder, complete, find_task(config.task).classes)
        made = ModelConfig(complete, generator.config, feedback=config.feedback)
        return PSP(encoder, generator, made, generator.w_avg, generator.row_unit())
    except ValueError as error:
        raise ConfigError(f"{error}: change --encoder") from error


def from_checkpoint(config: TrainConfig) -> PSP:
    """The model in ``start_from``, changed to read the task's sources, with ``config.generator`` if that is given.

    Where that generator has other rows, the layers that compute rows are new and all below them is kept. Raises
    ConfigError for an encoder of another shape than the model's, and for a model of another kind of source.
    """
    start = cast(str, config.start_from)
    model = checkpoints.load(start, generator=config.generator if checkpoints.lacks_generator(start) else None)
    task, channels = find_task(config.task), channels_of(config.task, config.source)
    _check_model(config, model, channels)
    generator = checkpoints.load_generator(config.generator) if config.generator else model.generator
    encoder, before = model.encoder, model.encoder.config
    complete = replace(before, input_channels=channels + 3 * model.corrects_itself)
    if model.config.task != config.task or complete != before:
        encoder = input_channels.adapt(encoder, complete, task.classes)
    if (generator.rows, generator.width) != (before.rows, before.width):
        encoder = _with_rows(encoder, generator.rows, generator.width)
    # a detail encoder fits the rows that it was trained with: other rows need another one
    made = replace(model.config, encoder=encoder.config, generator=generator.config, detail=None)
    if not config.generator:
        return PSP(encoder, generator, made, model.w_avg, model.w_unit)
    return PSP(encoder, generator, made, generator.w_avg, generator.row_unit())


def _check_model(config: TrainConfig, model: PSP, channels: int) -> None:
    """Raise ConfigError where the configuration contradicts the model that it starts from."""
    shape = EncoderShape(**{name: getattr(model.encoder.config, name) for name in SHAPE})
    if config.encoder not in (EncoderShape(), shape):
        raise ConfigError(
            f"{config.start_from} has an encoder of its own shape: leave out --encoder, or --start-from None"
        )
    if config.feedback and not model.corrects_itself:
        raise ConfigError(f"{config.start_from} does not read its own reconstruction: add --no-feedback --iterations 1")
    if model.config.task != config.task and model.source_channels != 3:
        raise ConfigError(
            f"{config.start_from} was trained for {model.config.task} and reads {model.source_channels} channels: "
            f"start {config.task} from a model of photographs"
        )
    if model.config.task == config.task and channels != model.source_channels:
        raise ConfigError(
            f"{config.start_from} reads {model.source_channels} channels, these sources have {channels}: start from "
            "a model of photographs"
        )


def _with_rows(encoder: Encoder, rows: int, width: int) -> Encoder:
    """An encoder for other rows, with all weights of ``encoder`` that fit."""
    made = encoders.build(replace(encoder.config, rows=rows, width=width))
    own = made.state_dict()
    kept = {name: value for name, value in encoder.state_dict().items() if name in own}
    made.load_state_dict(own | {name: value for name, value in kept.items() if value.shape == own[name].shape})
    return made


TRUNKS: dict[str, Callable[[str | Path], nn.Module]] = {
    "ir_se50": foreign.load_arcface,
    "resnet34": foreign.load_resnet,
}
"""Readers of the files that trunks start from."""


def load_trunk(encoder: Encoder, file: str | None) -> None:
    """Start the trunk from a pretrained network: the bundled one, or a published one from ``file``.

    Input channels that the network does not have (the reconstruction) get zero weights. Raises CheckpointError for a
    file of another network.
    """
    if isinstance(encoder.trunk, mobilefacenet.MobileFaceNet):
        input_channels.load_trunk(encoder.trunk, mobilefacenet.pretrained(embed=False).state_dict())
    elif file is not None:
        input_channels.load_trunk(encoder.trunk, TRUNKS[encoder.config.trunk](file).state_dict())


def to_device(module: Network, device: torch.device) -> Network:
    """Move a network; channels last on CPUs, where it is faster (on GPUs cuDNN takes seconds to build its kernels)."""
    return module.to(device).to(memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format)
