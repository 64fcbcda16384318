"""Whether a run's configuration can work, and where it runs: said before anything is loaded or written.

This module does not know models; what depends on them is refused in ``starting``.
"""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import TrainConfig
from ..errors import ConfigError
from ..runtime import choose_device, keep_freed_memory
from ..tasks import find_task, label_maps

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = timedelta(hours=6)
"""How long processes wait for the first one, which judges and saves alone."""


def settled(config: TrainConfig) -> TrainConfig:
    """The configuration with what it names outside itself taken in (the colours of label maps).

    Raises ConfigError for settings that are missing or cannot work together.
    """
    task, loss = find_task(config.task), config.loss
    if not config.data:
        raise ConfigError("a run needs pictures: name a folder of them with --data")
    if not config.out:
        raise ConfigError("a run needs a folder of its own: name one with --out")
    out = Path(config.out).resolve()
    for folder in (*config.data, *config.targets, *config.validation, *config.validation_targets):
        if out.is_relative_to(Path(folder).resolve()):
            raise ConfigError(f"{config.out} lies in {folder}, whose pictures are learned from: choose another --out")
    if config.iterations > 1 and not (config.feedback or config.start_from):
        raise ConfigError("only an encoder with --feedback sees what it drew: add it, or leave out --iterations")
    if config.generated and config.targets:
        raise ConfigError("generated pictures have no source file: leave out --generated, or --targets")
    if config.generated and task.source is None:
        raise ConfigError(f"{config.task} reads its sources from files: leave out --generated")
    if config.frugal and (config.clip or config.iterations > 1 or config.accumulate > 1 or config.precision == "fp16"):
        raise ConfigError("--frugal has no whole gradient: add --clip 0 --iterations 1 --accumulate 1, and no fp16")
    if loss.code_regression and not config.generated:
        raise ConfigError("only generated pictures have known rows: add --generated 4, or --loss.code-regression 0")
    if loss.detail and not (config.generated and config.full_size):
        raise ConfigError("--loss.detail looks at generated pictures at full size: add --generated 4 --full-size")
    if config.trunk_weights and (config.start_from or config.encoder.trunk == "mobilefacenet"):
        raise ConfigError(
            "--trunk-weights are for a new ir_se50 encoder, or a new resnet34 one: leave it out, or --start-from None"
        )
    if loss.identity_network == "dlib":
        raise ConfigError("dlib is the judge that trains nothing: use mobilefacenet, or the file of ArcFace IR-SE50")
    if config.source.colours:
        config = replace(config, source=replace(config.source, colours=label_maps.colour_table(config.source)))
    return config


def accelerated(config: TrainConfig) -> "Accelerator":
    """The device, precision and processes of a run. Raises ConfigError for a device that is not there, or an odd split.

    Whoever starts several processes (``accelerate launch``) decides which device each of them has.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import InitProcessGroupKwargs

    device = choose_device(config.device)
    cpu = device.type == "cpu"
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError("fp16 needs CUDA: use --precision bf16 or fp32")
    AcceleratorState._reset_state(PartialState._shared_state.get("_cpu", cpu) != cpu)
    precision = {"fp32": "no"}.get(config.precision, config.precision)
    try:
        waiting = InitProcessGroupKwargs(timeout=PATIENCE)
        accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[waiting])
    except ValueError as error:  # a device without bf16
        raise ConfigError(f"{config.precision} is not to be had here ({error}): use --precision fp32") from error
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
