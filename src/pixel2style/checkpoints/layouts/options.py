"""What official checkpoints say of the training that wrote them (``opts``): read where it matters, written in full.

Names and values are those of the options of pSp, e4e and ReStyle; their code builds its networks and its data from
them and stops at the first one that is missing. What was never true of our training (batches, intervals) is said as the
papers' code has it by default.

This module does not know tensors.
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
"""Family and name of the encoders that their code has: by kind, trunk, and whether they see what they drew."""

FACES = "ffhq_encode"
"""The ``dataset_type`` that every family's code looks up."""

WIDE = "cars_"
"""How the names of data begin whose pictures are 4 wide and 3 high to e4e's, ReStyle's and HyperStyle's code: squares
are drawn for them, of which the middle rows are seen and shown. Their one name that may be written is cars_encode."""

LOOKS, MOST_LOOKS = 5, 100
"""Looks of a ReStyle encoder where its file does not say; more than the second number nobody means."""


def learnt(config: ModelConfig, options: Mapping[str, Any], restyle: bool) -> ModelConfig:
    """``config`` with what a file's options say of task, looks and shape, as far as its sizes allow."""
    channels = config.encoder.input_channels
    feedback = restyle and channels > 3
    looks = options.get("n_iters_per_batch")
    if type(looks) is not int or not 0 < looks <= MOST_LOOKS:
        looks = LOOKS
    task, source = _task(options, channels - 3 * feedback)
    iterations = looks if feedback else 1
    encoder = replace(config.encoder, input_height=_height(options, config.encoder.input_size))
    return replace(config, encoder=encoder, feedback=feedback, iterations=iterations, task=task, source=source)


def _height(options: Mapping[str, Any], width: int) -> int:
    """How high the encoder's input is, 0 where it is as high as wide or nobody means it."""
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
        looks = "that sees" if config.feedback else "that does not see"
        raise ConfigError(
            f"neither pSp's code nor e4e's nor ReStyle's has an encoder of kind {encoder.kind} on {encoder.trunk} "
            f"{looks} what it drew: keep the model as ours, or train one of the encoders that docs/checkpoints.md lists"
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


def written(config: ModelConfig) -> dict[str, Any]:
    """All options that the code of an encoder's family reads, for this one."""
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
        # its scripts go by the name: faces have 1024 pixels there, whatever is neither face nor car 256
        made |= _E4E | {"stylegan_size": size, "lpips_type": "alex"}
        made |= {"dataset_type": FACES if size == 1024 else "church_encode"}
    else:
        made |= {"input_nc": channels, "output_size": size, "n_iters_per_batch": config.iterations, "moco_lambda": 0.0}
        made |= {"w_norm_lambda": 0.0} | (_E4E if config.encoder.kind == "top_e4e" else {})
    height, width = config.encoder.input_shape
    return made if height == width else made | {"dataset_type": f"{WIDE}encode"}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, which every reader builds."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


_COMMON = {
    "exp_dir": "", "stylegan_weights": "", "checkpoint_path": None, "device": "cuda:0",
    "batch_size": 8, "test_batch_size": 8, "workers": 8, "test_workers": 8,
    "learning_rate": 1e-4, "optim_name": "ranger", "train_decoder": False,
    "lpips_lambda": 0.8, "id_lambda": 0.1, "l2_lambda": 1.0,
    "max_steps": 500_000, "image_interval": 100, "board_interval": 50, "val_interval": 1000, "save_interval": None,
}  # fmt: skip
"""Options of all three, and what stands for those that only training reads."""

_PSP = {
    "w_norm_lambda": 0.0, "lpips_lambda_crop": 0.0, "l2_lambda_crop": 0.0, "moco_lambda": 0.0, "use_wandb": False,
}  # fmt: skip

_E4E = {
    "w_discriminator_lambda": 0.1, "w_discriminator_lr": 2e-5, "r1": 10.0, "d_reg_every": 16, "use_w_pool": True,
    "w_pool_size": 50, "delta_norm": 2, "delta_norm_lambda": 2e-4, "progressive_steps": None, "progressive_start": None,
    "progressive_step_every": 2000, "save_training_data": False, "sub_exp_dir": None, "keep_optimizer": False,
    "resume_training_from_ckpt": None, "update_param_list": None,
}  # fmt: skip
