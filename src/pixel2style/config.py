"""What a model is, as data: frozen, validated, free of torch.

A configuration is what a checkpoint carries in its metadata and what rebuilds the networks before their weights are
read. It does not know where weights lie, nor how a model is trained.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")
Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, config=_STRICT)
class GeneratorConfig:
    """A generator with rows of ``width`` numbers that draws ``size`` x ``size`` pixels."""

    kind: Literal["stylegan2", "mobilestylegan"] = "stylegan2"
    size: Positive = 1024
    width: Positive = 512
    mapping_layers: Positive = 8
    channel_multiplier: Positive = 2


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig:
    """A network from a picture to rows (pSp, section 3).

    ``heads``: "separate" gives every row its own convolutions (the paper); "shared" gives every pyramid level one
    stride-2 tower that ends ``tower_width`` wide, and every row two layers on it, ``head_width`` wide between them (the
    compact models). ``neck`` counts residual units behind the trunk's last map.
    """

    kind: Literal["pyramid", "single_w", "last_layer"] = "pyramid"
    trunk: Literal["ir_se50", "mobilefacenet"] = "ir_se50"
    input_channels: Positive = 3
    input_size: Positive = 256
    rows: Positive = 18
    width: Positive = 512
    pyramid_width: Positive = 512
    heads: Literal["separate", "shared"] = "separate"
    tower_width: Positive = 512
    head_width: Positive = 512
    neck: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """An encoder, the generator that spends its rows, and how they meet.

    ``add_average``: the encoder says how far the rows are from the average (every released model), not where they are.
    ``feedback``: the encoder also sees its current reconstruction, three more channels, starting from the average
    picture, and corrects itself for ``iterations`` looks (ReStyle, arXiv 2104.02699).
    """

    encoder: EncoderConfig
    generator: GeneratorConfig
    add_average: bool = True
    feedback: bool = False
    iterations: Positive = 1


NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Weights of the terms in ``losses``; a weight of 0 never builds the term's network."""

    l2: NotNegative = 1.0
    lpips: NotNegative = 0.8
    identity: NotNegative = 0.25
    code_norm: NotNegative = 0.002
    code_regression: NotNegative = 0.05
    detail: NotNegative = 0.5
    """LPIPS of full-size crops of generated pictures; only where the run draws at full size."""


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """A training run for inversion. The same command again continues it (``runs.MAY_CHANGE`` lists what may differ)."""

    data: tuple[str, ...]
    """Folders of aligned photographs; each is drawn from in proportion to the square root of its size."""
    out: str
    """Folder of the run: its configuration, its log and its last state."""
    validation: tuple[str, ...] = ()
    """Folders of aligned photographs that judge the run; never trained on."""
    generator: str = "mobilestylegan_ffhq_1024"
    start_from: str | None = None
    """A model to start from: its weights, its generator in place of ``generator``, its encoder's architecture."""
    encoder: EncoderConfig = EncoderConfig(
        trunk="mobilefacenet",
        input_channels=6,
        rows=16,
        pyramid_width=128,
        heads="shared",
        tower_width=384,
        head_width=256,
        neck=6,
    )
    loss: LossConfig = LossConfig()
    looks: Positive = 1
    """How often the encoder looks at each picture; above 1 it learns to correct itself."""
    one_look_until: Annotated[int, Field(ge=0)] = 0
    """The step until which one look is enough: the first teaches the second where to begin."""
    photos: Positive = 12
    """Photographs in a batch."""
    generated: Annotated[int, Field(ge=0)] = 4
    """Generated pictures of known rows in a batch."""
    full_size: bool = False
    """Draw the generator's full picture and pool it, instead of its cheaper 256-pixel head."""
    augment: bool = True
    lr: NotNegative = 5e-4
    warmup: Positive = 300
    steps: Positive = 100_000
    """The learning rate falls to a fiftieth along a cosine that ends here."""
    minutes: NotNegative = 0
    """Stop after so many minutes, state saved (0: only at ``steps``)."""
    ema: NotNegative = 0.999
    clip: NotNegative = 1.0
    save_every: Positive = 500
    judge_every: Positive = 500
    log_every: Positive = 50
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    bf16: bool = True
    compile: bool = False
    seed: int = 0
