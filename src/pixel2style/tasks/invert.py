"""Inversion: a photograph of a face to the rows that draw it again (pSp, section 4.1)."""

from dataclasses import replace

from ..config import LossConfig
from . import recipes
from .task import OfficialDataset, Preset, Task, whole

LOSS = LossConfig(l2=1, lpips=0.8, identity=0.1)
PAPER = recipes.paper("invert", LOSS)
COMPACT = replace(
    recipes.from_scratch(recipes.compact("invert", replace(LOSS, identity=0.25, code_regression=0.05))), generated=4
)
TINY = replace(
    COMPACT,
    start_from="faces",
    loss=LOSS,
    one_iteration_until=0,
    iterations=1,
    batch=2,
    generated=0,
    mirror=False,
    augment=False,
    optimizer="ranger",  # AdamW's first steps would destroy what ``faces`` has learned
    lr=4e-3,
    warmup=0,
    steps=135,
    ema=0.0,
    save_every=45,
    judge_every=45,
    log_every=10,
)

TASK = Task(
    "a photograph of a face to the rows that draw it again",
    presets={
        **recipes.presets("invert", "photograph -> rows of W+ -> the same photograph", PAPER, COMPACT),
        "detail": Preset(
            "a detail encoder: what rows cannot carry, for the model of --start-from (GPU)",
            recipes.detail("invert", LOSS),
        ),
        "detail-compact": Preset(
            "a detail encoder for faces, or for the model of --start-from (compact)",
            recipes.detail_compact("invert", LOSS),
        ),
        "tiny": Preset("overfits ten pictures in two minutes on a CPU, to see that it learns here", TINY),
    },
    model="faces",
    refinable=True,
    shown=whole,
    official=OfficialDataset("ffhq_encode", ("psp", "e4e", "restyle"), prefixes=("ffhq", "celeb")),
)
