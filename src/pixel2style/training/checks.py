"""Whether a run's settings can work together, checked before anything is loaded or written.

What depends on the model is checked in ``setup``, what depends on the machine in ``distributed``.
"""

from dataclasses import replace
from pathlib import Path

from ..config import TrainConfig
from ..errors import ConfigError
from ..tasks import find_task, read_settings


def check_config(config: TrainConfig) -> TrainConfig:
    """The configuration, with the content of files that it names filled in (colours of label maps).

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
            raise ConfigError(f"{config.out} is inside {folder}, whose pictures the run reads: choose another --out")
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
