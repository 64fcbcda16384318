"""Whether a run's settings can work together, checked before anything is loaded or written.

What depends on the model is checked in ``setup``, what depends on the machine in ``distributed``.
"""

import functools
from dataclasses import fields, replace
from pathlib import Path

from ..config import DetailRun, TrainConfig
from ..errors import ConfigError
from ..files import resolved
from ..tasks import Task, find_task, read_settings

ENCODER_ONLY = (
    *("targets", "validation_targets", "source", "generator", "trunk_weights", "encoder", "feedback", "iterations"),
    *("rows_until", "teacher", "one_iteration_until", "checkpointing", "loss.w_norm", "loss.l2_crop"),
    *("loss.lpips_crop", "loss.code_norm", "loss.code_regression", "loss.detail"),
)
"""Options that mean nothing where rows are those of a frozen encoder."""
DETAIL_ONLY = (
    *(f"detail.{field.name}" for field in fields(DetailRun)),
    *("loss.residual", "loss.windows", "loss.roughness"),
)
"""Options that mean nothing where a run has no detail encoder."""


def check_config(config: TrainConfig) -> TrainConfig:
    """The configuration, with the content of files that it names filled in (colours of label maps).

    Raises ConfigError for settings that are missing or cannot work together.
    """
    task, loss = find_task(config.task), config.loss
    if not config.data:
        raise ConfigError("a run needs pictures: name a folder of them with --data")
    if not config.out:
        raise ConfigError("a run needs a folder of its own: name one with --out")
    out = resolved(Path(config.out))
    for folder in (*config.data, *config.targets, *config.validation, *config.validation_targets):
        if not folder:
            raise ConfigError('a folder of pictures has an empty name: name it ("." is the current one)')
        if out.is_relative_to(resolved(Path(folder))):
            raise ConfigError(f"{config.out} is inside {folder}, whose pictures the run reads: choose another --out")
    _check_network(config, task)
    if config.iterations > 1 and not (config.feedback or config.start_from):
        raise ConfigError("--iterations above 1 needs an encoder with --feedback: add it, or leave out --iterations")
    if config.generated and config.targets:
        raise ConfigError("generated pictures have no source file: leave out --generated, or --targets")
    if config.generated and task.source is None:
        raise ConfigError(f"{config.task} reads its sources from files: leave out --generated")
    if config.frugal and (config.clip or config.iterations > 1 or config.accumulate > 1 or config.precision == "fp16"):
        raise ConfigError("--frugal has no whole gradient: add --clip 0 --iterations 1 --accumulate 1, and no fp16")
    if loss.code_regression and not config.generated:
        raise ConfigError("only generated pictures have known rows: add --generated 4, or --loss.code-regression 0")
    if loss.detail and not (config.generated and config.full_size):
        raise ConfigError("--loss.detail compares generated pictures at full size: add --generated 4 --full-size")
    if config.trunk_weights and (config.start_from or config.encoder.trunk == "mobilefacenet"):
        raise ConfigError(
            "--trunk-weights are for a new ir_se50 encoder, or a new resnet34 one: leave it out, or --start-from None"
        )
    if loss.identity_network == "dlib":
        raise ConfigError("dlib is only for evaluation: use mobilefacenet, or the file of ArcFace IR-SE50")
    return replace(config, source=read_settings(task, config.source))


def _check_network(config: TrainConfig, task: Task) -> None:
    """Raise ConfigError for options of the network that this run does not train, and what a detail encoder excludes."""
    default = TrainConfig()
    detail = config.network == "detail"
    for name in ENCODER_ONLY if detail else DETAIL_ONLY:
        if _value(config, name) != _value(default, name):
            trained = "a detail encoder" if detail else "an encoder of rows"
            raise ConfigError(f"--{name.replace('_', '-')} means nothing to a run that trains {trained}: leave it out")
    if not detail and config.optimizer == "muon":
        raise ConfigError("--optimizer muon is for detail encoders: choose ranger, adam or adamw")
    if not detail:
        return
    if not config.start_from:
        raise ConfigError("a detail encoder is trained for a model: name one with --start-from, such as faces")
    if task.shown is None:
        raise ConfigError(f"results of {config.task} are drawn from rows alone: detail encoders are for other tasks")
    if config.frugal and config.optimizer == "muon":
        raise ConfigError("--frugal updates weights one by one, and muon does not: add --optimizer adamw")
    if config.generated and not config.full_size:
        raise ConfigError(
            "a detail encoder gets generated pictures at full size only: add --full-size, or --generated 0"
        )
    if config.loss.windows and not config.generated:
        raise ConfigError("--loss.windows compares generated pictures: add --generated 1, or --loss.windows 0")
    if config.loss.roughness and not config.full_size:
        raise ConfigError("--loss.roughness is compared at full size: add --full-size, or --loss.roughness 0")
    if config.detail.cache and config.augment:
        raise ConfigError("augmented pictures do not occur twice: leave out --detail.cache, or --augment")


def _value(config: TrainConfig, name: str) -> object:
    return functools.reduce(getattr, name.split("."), config)
