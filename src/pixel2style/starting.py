"""What a run is before its first step: device, model, optimiser, judges and pictures, as its configuration says.

An encoder starts from a model that reads other pictures too: its first layer is made to see sketches, label maps and
masked pictures as pictures (``painting``). This module does not know how a step is taken (``learning``).

Axes: ``c`` channels, ``k`` rows, ``d`` width of a row.
"""

import contextlib
import copy
import ctypes
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from . import checkpoints, encoders, foreign, labels, mobilefacenet, painting
from .config import EncoderConfig, ModelConfig, TrainConfig
from .data import Pictures
from .encoders import Encoder
from .errors import ConfigError
from .irse import IRSE
from .learning import State, Teacher
from .losses import Objective
from .model import PSP, Generator
from .pipeline import choose_device
from .tasks import channels_of, find_task
from .thrift import Shelf, StepInBackward

if TYPE_CHECKING:
    from accelerate import Accelerator

SIDE = 256
"""Pictures are compared at so many pixels."""
Network = TypeVar("Network", bound=nn.Module)


def settled(config: TrainConfig) -> TrainConfig:
    """The configuration with what it names outside itself taken in (the colours of label maps).

    Raises ConfigError for settings that are missing or cannot work together.
    """
    find_task(config.task)
    if not config.data:
        raise ConfigError("a run needs pictures: name a folder of them with --data")
    if not config.out:
        raise ConfigError("a run needs a folder of its own: name one with --out")
    if config.looks > 1 and not (config.feedback or config.start_from):
        raise ConfigError("only an encoder with --feedback sees what it drew: add it, or leave out --looks")
    if config.generated and config.targets:
        raise ConfigError("generated pictures have no source file: leave out --generated, or --targets")
    if config.generated and find_task(config.task).source is None:
        raise ConfigError(f"{config.task} reads its sources from files: leave out --generated")
    if config.frugal and (config.clip or config.looks > 1 or config.accumulate > 1 or config.precision == "fp16"):
        raise ConfigError("--frugal has no whole gradient: add --clip 0 --looks 1 --accumulate 1, and no fp16")
    if config.loss.identity_network == "dlib":
        raise ConfigError("dlib is the judge that trains nothing: use mobilefacenet, or the file of ArcFace IR-SE50")
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("fp16 needs CUDA: use --precision bf16 or fp32")
    if config.source.colours:
        config = replace(config, source=replace(config.source, colours=labels.colour_table(config.source)))
    return config


def accelerated(config: TrainConfig) -> "Accelerator":
    """The device, precision and processes of a run. Raises ConfigError for a device that is not there, or an odd split.

    Whoever starts several processes (``accelerate launch``) decides which device each of them has.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    device = choose_device(config.device)
    cpu = device.type == "cpu"
    AcceleratorState._reset_state(PartialState._shared_state.get("_cpu", cpu) != cpu)
    precision = {"fp32": "no"}.get(config.precision, config.precision)
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu)
    if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
        raise ConfigError(
            "accelerate launch --cpu starts one process, however many are asked for: replace --cpu by --multi_gpu, "
            "which starts them on CPUs too"
        )
    parts = accelerator.num_processes * config.accumulate
    if config.batch % parts or config.generated % parts:
        raise ConfigError(
            f"{config.batch} pictures and {config.generated} generated ones cannot be shared by "
            f"{accelerator.num_processes} processes in {config.accumulate} parts: make --batch and --generated "
            f"multiples of {parts}"
        )
    if config.frugal and accelerator.num_processes > 1:
        raise ConfigError("--frugal has no gradient to share: start one process, or leave it out")
    if accelerator.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    if cpu:
        keep_freed_memory()
    return accelerator


def keep_freed_memory() -> None:
    """Let the process keep what tensors have freed, for the next step's tensors, where the C library can be told so.

    Otherwise Linux hands out and clears the same pages at every step: a quarter of the time of a compact one.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def start(config: TrainConfig, accelerator: "Accelerator") -> State:
    """A fresh state: ``start_from``, or a new encoder on the trunk of an identity network where there is one.

    Raises ConfigError for settings that cannot work together, CheckpointError for files that cannot be read.
    """
    torch.manual_seed(config.seed)
    model = laid_out(grown(config) if config.start_from else newborn(config), accelerator.device)
    model.config = replace(
        model.config,
        iterations=config.looks,
        task=config.task,
        source=config.source,
    )
    if config.looks > 1 and not model.corrects_itself:
        raise ConfigError(f"{config.start_from} does not see what it drew: leave out --looks")
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
        return StepInBackward(encoder.parameters(), make, Shelf() if accelerator.device.type == "cpu" else None)
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
    shape = {name: getattr(config.encoder, name) for name in config.encoder.__dataclass_fields__}
    try:
        complete = EncoderConfig(
            **shape, input_channels=channels + 3 * config.feedback, rows=generator.rows, width=generator.width
        )
        encoder = encoders.build(replace(complete, input_channels=3 + 3 * config.feedback))
        _educate(encoder, config.trunk_weights)
        encoder = painting.repainted(encoder, complete, channels)
        made = ModelConfig(complete, generator.config, feedback=config.feedback)
        return PSP(encoder, generator, made, generator.w_avg, getattr(generator, "w_std", None))
    except ValueError as error:
        raise ConfigError(f"{error}: change --encoder") from error


def grown(config: TrainConfig) -> PSP:
    """The model that ``start_from`` names, reading what the task has it read, into the generator that is asked for."""
    model = checkpoints.load(cast(str, config.start_from))
    generator, made = model.generator, model.config
    if config.generator:
        generator = checkpoints.load_generator(config.generator)
        there, here = cast(Generator, model.generator), cast(Generator, generator)
        if (there.rows, there.width) != (here.rows, here.width):
            raise ConfigError(
                f"{config.start_from} writes {there.rows} rows of {there.width}, {config.generator} reads {here.rows} "
                f"of {here.width}: leave out --start-from"
            )
    channels = channels_of(config.task, config.source)
    complete = replace(model.encoder.config, input_channels=channels + 3 * model.corrects_itself)
    if (made.task, made.source.classes) != (config.task, config.source.classes) or channels != model.source_channels:
        if channels != model.source_channels and model.source_channels != 3:
            raise ConfigError(
                f"{config.start_from} reads {model.source_channels} channels, {config.task} has {channels}: start from "
                "a model of photographs or of the same task"
            )
        encoder = painting.repainted(model.encoder, complete, channels)
    else:
        encoder = model.encoder
    made = replace(made, encoder=complete, generator=cast(Generator, generator).config)
    return PSP(encoder, generator, made, model.w_avg, model.w_unit)


def _educate(encoder: Encoder, trunk_weights: str | None) -> None:
    """Start the trunk from an identity network: the bundled one, or the file of the paper's."""
    if isinstance(encoder.trunk, mobilefacenet.MobileFaceNet):
        encoder.trunk.load(mobilefacenet.pretrained(embed=False).state_dict())
    elif trunk_weights is not None and isinstance(encoder.trunk, IRSE):
        known = foreign.load_arcface(trunk_weights).state_dict()
        own = encoder.trunk.state_dict()
        first = "input_layer.0.weight"
        kept = {name: value for name, value in known.items() if name in own}
        extra = own[first].shape[1] - kept[first].shape[1]
        kept[first] = torch.cat([kept[first], kept[first].new_zeros(len(kept[first]), extra, 3, 3)], 1)
        encoder.trunk.load_state_dict(kept)


def laid_out(module: Network, device: torch.device) -> Network:
    """Move a network; channels last where it pays: on CPUs. On an H100 cuDNN's kernels take seconds to build for it."""
    return module.to(device).to(memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format)


def judged_by(config: TrainConfig, device: torch.device) -> Objective:
    """The losses of a run, on its device, with the networks that its files hold.

    Raises CheckpointError for files that hold none.
    """
    loss = config.loss
    identity = foreign.load_arcface(loss.identity_network) if _is_file(loss.identity, loss.identity_network) else None
    similarity = (
        foreign.load_moco(loss.similarity_network) if _is_file(loss.similarity, loss.similarity_network) else None
    )
    return laid_out(Objective(loss, identity=identity, similarity=similarity), device)


def _is_file(weight: float, network: str) -> bool:
    return weight > 0 and network not in ("mobilefacenet", "alex")


def drawing_size(config: TrainConfig, generator: Generator) -> int | None:
    """The side at which pictures are drawn: 256 pixels, or all that the generator has."""
    return None if config.full_size else min(SIDE, generator.size)


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
    generator = cast(Generator, state.model.generator)
    size = drawing_size(config, generator)

    def draw(ws: Tensor) -> Tensor:
        return generator.synthesize(ws, size)

    if config.compile:
        draw = torch.compile(draw, dynamic=False)
        state.model.encoder.compile(dynamic=False)
    objective = judged_by(config, accelerator.device)
    return Teacher(config, find_task(config.task), objective, pictures, draw, accelerator)
