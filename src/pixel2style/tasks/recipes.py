"""Training configurations that the presets of tasks are built from: the paper's, and the compact one.

The numbers are those of pSp (arXiv 2008.00951, section 4 and appendix). The compact recipe is for the bundled generator
and runs on two CPU cores.
"""

from dataclasses import replace

from ..config import DetailRun, EncoderShape, LossConfig, TrainConfig
from .task import Preset

COMPACT = EncoderShape(
    trunk="mobilefacenet", pyramid_width=128, heads="shared", tower_width=384, head_width=256, neck=6
)
"""The encoder of the bundled models: 10 million weights on the trunk of a face-identity network."""


def paper(task: str, loss: LossConfig) -> TrainConfig:
    """pSp as published: IR-SE50, a head of its own for every row, Ranger at 1e-4, batches of 8.

    The paper trains for up to 500,000 steps and released inversion at 300,000.
    """
    return TrainConfig(task=task, loss=loss, steps=300_000, ema=0.0)


def compact(task: str, loss: LossConfig, code_norm: float = 0.002) -> TrainConfig:
    """The paper's losses on the compact encoder, started from the bundled model ``faces``.

    The bundled generator's axes of W differ in length, so the paper's ``w_norm`` is replaced by ``code_norm``, which
    is measured in units of W's standard deviation.
    """
    return TrainConfig(
        task=task,
        loss=replace(loss, w_norm=0.0, code_norm=code_norm),
        start_from="faces",
        encoder=COMPACT,
        feedback=True,
        iterations=2,
        batch=12,
        augment=True,
        optimizer="adamw",
        lr=3e-4,
        schedule="cosine",
        warmup=50,
        steps=6_000,
        clip=1.0,
    )


def detail(task: str, loss: LossConfig) -> TrainConfig:
    """A detail encoder for the frozen encoder and generator of a model that ``start_from`` has to name.

    Most steps draw 256 pixels; the last 30 % draw all, since only these show how sharp a picture is.
    """
    return TrainConfig(
        network="detail",
        task=task,
        loss=replace(loss, edges=3.0, residual=0.002, windows=0.3, roughness=0.01),
        detail=DetailRun(full_size_from=7_000, full_batch=8, newton=0.125),
        batch=16,
        generated=4,
        full_size=True,
        augment=True,
        optimizer="muon",
        lr=1e-3,
        schedule="trapezoid",
        warmup=50,
        steps=10_000,
        clip=1.0,
        ema=0.995,
        save_every=250,
    )


def detail_compact(task: str, loss: LossConfig) -> TrainConfig:
    """The same for the bundled model ``faces``, with few pictures in a step, for a CPU."""
    config = detail(task, loss)
    return replace(
        config,
        start_from="faces",
        detail=replace(config.detail, full_size_from=2_800, full_batch=2),
        batch=4,
        generated=1,
        augment=False,
        steps=4_000,
        save_every=100,
        judge_every=250,
        log_every=25,
    )


def from_scratch(config: TrainConfig) -> TrainConfig:
    """A compact run that starts from no model: a higher learning rate, a longer warm-up, one iteration at first."""
    return replace(config, start_from=None, lr=5e-4, warmup=300, one_iteration_until=2_500)


def presets(task: str, about: str, paper: TrainConfig, compact: TrainConfig) -> dict[str, Preset]:
    """The two presets of a task by name, ``TASK`` and ``TASK-compact``; ``about`` is their line in the help."""
    return {task: Preset(f"{about} (paper size)", paper), f"{task}-compact": Preset(f"{about} (compact)", compact)}
