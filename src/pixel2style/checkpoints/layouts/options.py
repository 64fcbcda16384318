"""Options in official checkpoints (``opts``): read where they matter, written in full.

Names and values are those of pSp, e4e and ReStyle, whose code builds networks and data from them and stops at the first
one that is missing. Options that our training does not have (batches, intervals) get the defaults of the papers' code.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from pydantic import ValidationError

from ... import tasks
from ...config import DEFAULT_TASK, ModelConfig, SourceConfig
from ...errors import ConfigError
from ...tasks import OfficialDataset
from ...tasks.task import Family

ENCODER_TYPES: dict[tuple[str, str, bool], tuple[Family, str]] = {
    ("pyramid", "ir_se50", False): ("psp", "GradualStyleEncoder"),
    ("single_w", "ir_se50", False): ("psp", "BackboneEncoderUsingLastLayerIntoW"),
    ("last_layer", "ir_se50", False): ("psp", "BackboneEncoderUsingLastLayerIntoWPlus"),
    ("e4e", "ir_se50", False): ("e4e", "Encoder4Editing"),
    ("pyramid", "ir_se50", True): ("restyle", "GradualStyleEncoder"),
    ("pyramid", "resnet34", True): ("restyle", "ResNetGradualStyleEncoder"),
    ("top", "ir_se50", True): ("restyle", "BackboneEncoder"),
    ("top", "resnet34", True): ("restyle", "ResNetBackboneEncoder"),
    ("top_e4e", "ir_se50", True): ("restyle", "ProgressiveBackboneEncoder"),
    ("top_e4e", "resnet34", True): ("restyle", "ResNetProgressiveBackboneEncoder"),
}
"""Family and name of the encoders that their code has, by kind, trunk and feedback."""

FACES = "ffhq_encode"
"""The ``dataset_type`` that every family's code looks up."""

WIDE = "cars_"
"""How names of datasets with 4:3 pictures begin in the code of e4e, ReStyle and HyperStyle: of a generator's square
picture the middle rows are used. The name that is written is cars_encode."""

DEFAULT_ITERATIONS, MAX_ITERATIONS = 5, 100
"""Iterations of a ReStyle encoder whose file does not say, and at most."""


def read(config: ModelConfig, options: Mapping[str, Any], restyle: bool) -> ModelConfig:
    """``config`` with task, iterations and input shape of a file's options, as far as its sizes allow."""
    channels = config.encoder.input_channels
    feedback = restyle and channels > 3
    given = options.get("n_iters_per_batch")
    iterations = given if type(given) is int and 0 < given <= MAX_ITERATIONS else DEFAULT_ITERATIONS
    task, source = _task(options, channels - 3 * feedback)
    encoder = replace(config.encoder, input_height=_height(options, config.encoder.input_size))
    return replace(
        config, encoder=encoder, feedback=feedback, iterations=iterations if feedback else 1, task=task, source=source
    )


def _height(options: Mapping[str, Any], width: int) -> int:
    """Height of the encoder's input, 0 where it is square or its width is no multiple of 64."""
    wide = str(options.get("dataset_type")).startswith(WIDE)
    return width * 3 // 4 if wide and width % 64 == 0 else 0


def _task(options: Mapping[str, Any], channels: int) -> tuple[str, SourceConfig]:
    task, source = DEFAULT_TASK, SourceConfig()
    ours, theirs = options.get("pixel2style"), options.get("dataset_type")
    try:
        if isinstance(ours, Mapping):
            task, source = str(ours.get("task")), SourceConfig(**ours.get("source", {}))
        elif isinstance(theirs, str):
            task, official = _named(theirs)
            source = replace(source, **official.settings(options, channels))
        if tasks.channels_of(task, source) == channels:
            return task, source
    except (ConfigError, ValidationError, TypeError):
        pass  # the file was written by something else
    return DEFAULT_TASK, SourceConfig()


def _named(dataset: str) -> tuple[str, OfficialDataset]:
    """The task that their code calls ``dataset``: by its name, else by how the name begins."""
    official = {name: task.official for name, task in tasks.TASKS.items() if task.official}
    for name, found in official.items():
        if found.name == dataset:
            return name, found
    matches = ((name, found) for name, found in official.items() if dataset.startswith(found.prefixes))
    return next(matches, (DEFAULT_TASK, OfficialDataset(dataset)))


def encoder_type(config: ModelConfig) -> tuple[Family, str]:
    """Family and name of an encoder in their code. Raises ConfigError for one that it does not have."""
    encoder = config.encoder
    found = ENCODER_TYPES.get((encoder.kind, encoder.trunk, config.feedback))
    if found is None:
        feedback = "with" if config.feedback else "without"
        raise ConfigError(
            f"neither pSp's code nor e4e's nor ReStyle's has an encoder of kind {encoder.kind} on {encoder.trunk} "
            f"{feedback} feedback: keep the model as ours, or train one of the encoders that docs/checkpoints.md lists"
        )
    return found


def refuse_sources(config: ModelConfig, family: Family) -> None:
    """Raise ConfigError for sources that the family's code cannot read."""
    channels = config.encoder.input_channels - 3 * config.feedback
    plain = {3} if family != "psp" else {1, 3}
    task = tasks.task_or_none(config.task)
    maps = task is not None and task.classes and task.official is not None and family in task.official.families
    if channels not in plain and not maps:
        raise ConfigError(
            f"{family}'s code reads no sources of {channels} channels, as {config.task} has them: keep the model as "
            "ours, or train a task that reads photographs"
        )


def refuse_shapes(config: ModelConfig, family: Family) -> None:
    """Raise ConfigError for pictures of a shape that the family's code does not read."""
    height, width = config.encoder.input_shape
    if height == width:
        return
    if family == "psp":
        raise ConfigError(f"pSp's code reads square pictures, and these are {width} x {height}: keep the model as ours")
    if 4 * height != 3 * width:
        raise ConfigError(
            f"{family}'s code reads squares, or cars 4 wide and 3 high, and these are {width} x {height}: keep the "
            "model as ours"
        )


def write(config: ModelConfig) -> dict[str, Any]:
    """All options that the code of the encoder's family reads."""
    family, name = encoder_type(config)
    size, channels = config.generator.size, config.encoder.input_channels
    task = tasks.task_or_none(config.task)
    official = task.official if task is not None else None
    known = official is not None and family in official.families
    made: dict[str, Any] = _COMMON | {
        "dataset_type": official.name if official is not None and known else FACES,
        "encoder_type": name,
        "start_from_latent_avg": config.add_average,
        "n_styles": config.encoder.rows,
        "pixel2style": {"task": config.task, "source": _plain(asdict(config.source))},
    }
    if family == "psp":
        made |= _PSP | {"input_nc": channels, "label_nc": channels if channels != 3 else 0, "resize_factors": None}
        made |= official.options(config.source) if official is not None else {}
        made |= {"output_size": size, "learn_in_w": config.encoder.kind == "single_w"}
    elif family == "e4e":
        # its scripts choose the size by this name: faces have 1024 pixels, everything but faces and cars 256
        made |= _E4E | {"stylegan_size": size, "lpips_type": "alex"}
        made |= {"dataset_type": FACES if size == 1024 else "church_encode"}
    else:
        made |= {"input_nc": channels, "output_size": size, "n_iters_per_batch": config.iterations, "moco_lambda": 0.0}
        made |= {"w_norm_lambda": 0.0} | (_E4E if config.encoder.kind == "top_e4e" else {})
    height, width = config.encoder.input_shape
    return made if height == width else made | {"dataset_type": f"{WIDE}encode"}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, which every unpickler can build."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


_COMMON = {
    "exp_dir": "", "stylegan_weights": "", "checkpoint_path": None, "device": "cuda:0",
    "batch_size": 8, "test_batch_size": 8, "workers": 8, "test_workers": 8,
    "learning_rate": 1e-4, "optim_name": "ranger", "train_decoder": False,
    "lpips_lambda": 0.8, "id_lambda": 0.1, "l2_lambda": 1.0,
    "max_steps": 500_000, "image_interval": 100, "board_interval": 50, "val_interval": 1000, "save_interval": None,
}  # fmt: skip
"""Options of all three; those that only training reads have their defaults."""

_PSP = {
    "w_norm_lambda": 0.0, "lpips_lambda_crop": 0.0, "l2_lambda_crop": 0.0, "moco_lambda": 0.0, "use_wandb": False,
}  # fmt: skip

_E4E = {
    "w_discriminator_lambda": 0.1, "w_discriminator_lr": 2e-5, "r1": 10.0, "d_reg_every": 16, "use_w_pool": True,
    "w_pool_size": 50, "delta_norm": 2, "delta_norm_lambda": 2e-4, "progressive_steps": None, "progressive_start": None,
    "progressive_step_every": 2000, "save_training_data": False, "sub_exp_dir": None, "keep_optimizer": False,
    "resume_training_from_ckpt": None, "update_param_list": None,
}  # fmt: skip
