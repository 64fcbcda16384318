"""Named runs: the paper's tasks at paper size, their compact twins for the bundled generator, and ``tiny``.

A preset is a whole ``TrainConfig`` but for data and folder; the command line overrides single fields of it. The numbers
are those of pSp (arXiv 2008.00951, section 4 and appendix); where a task was never released (inpainting), those of its
nearest relative. This module does not know what a task's pictures look like (``tasks``).
"""

from dataclasses import dataclass, replace

from ..config import EncoderShape, LossConfig, TrainConfig

COMPACT = EncoderShape(
    trunk="mobilefacenet", pyramid_width=128, heads="shared", tower_width=384, head_width=256, neck=6
)
"""The encoder of the bundled models: 10 million weights on the trunk of a face-identity network."""

PAPER_LOSSES = {
    "invert": LossConfig(l2=1, lpips=0.8, identity=0.1),
    "frontalize": LossConfig(l2=0.001, lpips=0.08, identity=1, w_norm=0.005, l2_crop=0.01, lpips_crop=0.8),
    "sketch": LossConfig(l2=1, lpips=0.8, identity=0, w_norm=0.005),
    "segmentation": LossConfig(l2=1, lpips=0.8, identity=0, w_norm=0.005),
    "superres": LossConfig(l2=1, lpips=0.8, identity=0.1, w_norm=0.005),
    "inpaint": LossConfig(l2=1, lpips=0.8, identity=0.1, w_norm=0.005),
    "toonify": LossConfig(l2=1, lpips=0.8, identity=1, w_norm=0.025),
    "domain": LossConfig(l2=1, lpips=0.8, identity=0, similarity=0.5),
}
PAPER_STEPS = {"toonify": 6_000}
"""Where the paper says how long; it trains the others for up to 500,000 steps and released inversion at 300,000."""


@dataclass(frozen=True)
class Preset:
    """A run by name: ``about`` is its line in the help."""

    about: str
    config: TrainConfig


def paper(task: str) -> TrainConfig:
    """pSp as published: IR-SE50, a head of its own for every row, Ranger at 1e-4, batches of 8."""
    return TrainConfig(task=task, loss=PAPER_LOSSES[task], steps=PAPER_STEPS.get(task, 300_000), ema=0.0)


def compact(task: str) -> TrainConfig:
    """The paper's losses for ``task`` on the compact encoder, which starts from ``faces`` where faces are shown.

    The regulariser counts in units of W's deviation, since the bundled generator's axes of W differ in length.
    """
    loss = PAPER_LOSSES[task]
    config = TrainConfig(
        task=task,
        loss=replace(loss, w_norm=0.0, code_norm=0.002 if task != "toonify" else 0.01),
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
    if task in ("invert", "domain"):  # the one is what ``faces`` was made by, the other shows no faces
        config = replace(config, start_from=None, lr=5e-4, warmup=300, one_iteration_until=2_500)
    if task == "invert":
        config = replace(config, loss=replace(config.loss, identity=0.25, code_regression=0.05), generated=4)
    return config


TINY = replace(
    compact("invert"),
    start_from="faces",
    loss=LossConfig(l2=1, lpips=0.8, identity=0.1),
    one_iteration_until=0,
    iterations=1,
    batch=2,
    generated=0,
    mirror=False,
    augment=False,
    optimizer="ranger",  # AdamW's first steps undo what ``faces`` has learned
    lr=4e-3,
    warmup=0,
    steps=135,
    ema=0.0,
    save_every=45,
    judge_every=45,
    log_every=10,
)

ABOUT = {
    "invert": "photograph -> rows of W+ -> the same photograph",
    "frontalize": "face in any pose -> the same face from the front",
    "sketch": "pencil sketch -> face",
    "segmentation": "label map -> face",
    "superres": "small picture -> large one",
    "inpaint": "picture with holes -> whole picture",
    "toonify": "face -> toon: name a toon generator with --generator",
    "domain": "inversion of what are no faces: name its generator with --generator",
}

PRESETS: dict[str, Preset] = {
    **{task: Preset(f"{about} (paper size)", paper(task)) for task, about in ABOUT.items()},
    **{f"{task}-compact": Preset(f"{about} (compact)", compact(task)) for task, about in ABOUT.items()},
    "tiny": Preset("overfits ten pictures in two minutes on a CPU, to see that it learns here", TINY),
}
