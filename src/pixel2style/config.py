"""What a model is and what a run is, as data: frozen, validated, free of torch.

A model's configuration is what a checkpoint carries in its metadata and what rebuilds the networks before their weights
are read. A run's configuration is what its folder carries and what repeats it. Neither knows where weights lie.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

DEFAULT_TASK = "invert"
"""The task of models and runs that name none."""
_STRICT = ConfigDict(extra="forbid")
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=_STRICT)
class AliasFreeConfig:
    """What distinguishes one StyleGAN3 from another (arXiv 2106.12423, section 3 and appendix E); defaults are T's.

    Frequencies are in cycles over the picture's canvas, at its coarsest layer; ``*_rel`` are multiples of the picture's
    own cutoff.
    """

    layers: Positive = 14
    """Convolutions before the one that makes colours."""
    critical: Count = 2
    """How many of the last layers keep every frequency that their pixels can hold."""
    first_cutoff: PositiveFloat = 2.0
    first_stopband: PositiveFloat = 2**2.1
    last_stopband_rel: PositiveFloat = 2**0.3
    margin: Count = 10
    """Pixels of room around the picture at every layer."""
    output_scale: PositiveFloat = 0.25
    kernel: Literal[1, 3] = 3
    """Side of the convolutions: 3 (T), or 1 (R)."""
    filter_size: Positive = 6
    """Taps of the low-pass filters, for each pixel of the coarser side."""
    lrelu_upsampling: Positive = 2
    """How much finer the pixels are where LeakyReLU acts."""
    radial: bool = False
    """Whether downsampling treats all directions alike (R)."""


@dataclass(frozen=True, config=_STRICT)
class GeneratorConfig:
    """A generator with rows of ``width`` numbers that draws ``size`` x ``size`` pixels."""

    kind: Literal["stylegan2", "mobilestylegan", "stylegan3"] = "stylegan2"
    size: Positive = 1024
    width: Positive = 512
    mapping_layers: Positive = 8
    channel_multiplier: Positive = 2
    """Channels above 32 pixels, in the usual table (``sizes.channels_at``)."""
    channels: tuple[Positive, ...] = ()
    """Channels, where they do not follow the table: of the maps at 4, 8, ... ``size`` pixels (StyleGAN2); of the input,
    then of every layer (StyleGAN3)."""
    noise_width: Count = 0
    """Numbers that ``map`` takes; 0: ``width``."""
    classes: Count = 0
    """Numbers in a label, for a generator that is told what to draw."""
    clamp: PositiveFloat | None = None
    """Largest magnitude that leaves a convolution (StyleGAN2-ADA and StyleGAN3: 256)."""
    alias_free: AliasFreeConfig | None = None
    """Of a StyleGAN3."""


@dataclass(frozen=True, config=_STRICT)
class EncoderShape:
    """A network from a picture to rows (pSp, section 3), but for what its task and its generator decide."""

    kind: Literal["pyramid", "single_w", "last_layer", "e4e", "top", "top_e4e"] = "pyramid"
    """Where rows are read: off a feature pyramid (the paper), one W for all, all by one layer off the last map, off a
    pyramid as one row and what the others differ by (e4e), each by its own head off the last map (ReStyle), or both
    (ReStyle over e4e)."""
    trunk: Literal["ir_se50", "resnet34", "mobilefacenet"] = "ir_se50"
    """The network below the rows: the paper's, a ResNet (as ReStyle's for other things than faces), or the compact
    one."""
    input_size: Positive = 256
    """Width of the picture that the trunk sees, a multiple of 16."""
    input_height: Count = 0
    """Its height, where it is wider than high, a multiple of 16 too: the middle rows of the generator's square picture
    (published encoders of cars: 192 of 256). 0: as high as wide."""
    pyramid_width: Positive = 512
    """Channels of the pyramid."""
    heads: Literal["separate", "shared"] = "separate"
    """Own convolutions for every row (the paper), or one stride-2 tower a pyramid level and two layers a row."""
    tower_width: Positive = 512
    """Channels at the end of a shared tower."""
    head_width: Positive = 512
    """Numbers between the two layers of a row on a shared tower."""
    neck: Count = 0
    """Residual units behind the trunk's last map."""

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the picture that the trunk sees."""
        return self.input_height or self.input_size, self.input_size


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig(EncoderShape):
    """An encoder, complete: what it reads and how many rows it writes."""

    input_channels: Positive = 3
    rows: Positive = 18
    width: Positive = 512


@dataclass(frozen=True, config=_STRICT)
class SourceConfig:
    """How sources are made or read; each task takes from it what it needs (docs/tasks.md)."""

    classes: Positive = 19
    """Classes of label maps: their numbers go from 0 to one less than this."""
    colours: tuple[str, ...] = ()
    """For label maps drawn in colours: #rrggbb of each class in order, or one file that lists them."""
    factors: tuple[Positive, ...] = (1, 2, 4, 8, 16, 32)
    """How many times smaller sources of few pixels are, drawn at random from these."""
    masks: tuple[Literal["box", "half", "strokes"], ...] = ("box", "half", "strokes")
    """What hides a part of the source, drawn at random from these."""
    sketches: tuple[Literal["pencil", "lines", "shaded"], ...] = ("pencil", "lines", "shaded")
    """Styles of sketches that are made from photographs, drawn at random from these."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """An encoder, the generator that spends its rows, and how they meet.

    ``add_average``: the encoder says how far the rows are from the average (every released model), not where they are.
    ``feedback``: the encoder also sees its current reconstruction, three more channels, starting from the average
    picture, and corrects itself for ``iterations`` passes (ReStyle, arXiv 2104.02699).
    ``task`` and ``source`` say what pictures it was taught to read (see ``tasks``).
    """

    encoder: EncoderConfig
    generator: GeneratorConfig
    add_average: bool = True
    feedback: bool = False
    iterations: Positive = 1
    task: str = DEFAULT_TASK
    source: SourceConfig = SourceConfig()


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Weights of the terms of the loss, and whose eyes judge; a weight of 0 never builds the term's network."""

    l2: NotNegative = 1.0
    """Squared difference of pixels."""
    lpips: NotNegative = 0.8
    """Perceptual distance (LPIPS)."""
    identity: NotNegative = 0.1
    """1 - cosine of face-identity vectors; not beside similarity."""
    w_norm: NotNegative = 0.0
    """How far rows are from the average (the paper's regulariser)."""
    l2_crop: NotNegative = 0.0
    """l2 of the face alone."""
    lpips_crop: NotNegative = 0.0
    """lpips of the face alone."""
    similarity: NotNegative = 0.0
    """1 - cosine of general features, for pictures that are no faces; not beside identity."""
    code_norm: NotNegative = 0.0
    """Mean squared code in units of W's deviation: keeps rows where the generator knows them."""
    code_regression: NotNegative = 0.0
    """Squared difference from the rows of generated pictures, which are known."""
    detail: NotNegative = 0.0
    """lpips of full-size windows of generated pictures; only where the run draws at full size."""
    lpips_net: Literal["alex", "vgg", "squeeze"] = "alex"
    """Whose features lpips compares."""
    identity_network: str = "mobilefacenet"
    """Who recognises faces: mobilefacenet, or the file of ArcFace IR-SE50."""
    similarity_network: str = "alex"
    """Whose features similarity compares: alex, or the file of a MoCo-v2 ResNet-50."""


RENAMED = {"looks": "iterations", "one_look_until": "one_iteration_until"}
"""Fields of a TrainConfig that had another name in 0.4: still read in a run's config.json and as options."""


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """A training run. The same command again continues it (``runs.MAY_CHANGE`` lists what may differ)."""

    task: str = DEFAULT_TASK
    """What sources and targets are; pixel2style translate --help lists the tasks."""
    data: tuple[str, ...] = ()
    """Folders of pictures, each drawn from in proportion to the square root of its size. Faces must be aligned:
    pixel2style align does it."""
    targets: tuple[str, ...] = ()
    """Folders of what should come out, one for each of data, paired by file stem; without it, data are the targets."""
    out: str = ""
    """Folder of the run: its configuration, its log, its states and its models."""
    validation: tuple[str, ...] = ()
    """Folders of pictures that judge the run; never trained on."""
    validation_targets: tuple[str, ...] = ()
    """What should come out of validation, as targets is to data."""
    source: SourceConfig = SourceConfig()
    generator: str | None = None
    """The frozen generator: a bundled name, one of our files, or a StyleGAN2 file. None: start_from's, else ours."""
    start_from: str | None = None
    """A model to start from: its encoder's weights and shape, its generator unless another is named."""
    trunk_weights: str | None = None
    """A file whose trunk the encoder starts from: ArcFace IR-SE50 for ir_se50, torchvision's ResNet-34 for resnet34."""
    encoder: EncoderShape = EncoderShape()
    feedback: bool = False
    """Whether the encoder also sees what its rows have drawn so far and corrects itself (ReStyle)."""
    loss: LossConfig = LossConfig()
    iterations: Positive = 1
    """How often the encoder corrects itself on each picture; more than one needs feedback."""
    one_iteration_until: Count = 0
    """The step until which one iteration is enough: the second starts from what the first has learned."""
    batch: Positive = 8
    """Pictures of data in a step, over all processes and accumulated parts."""
    generated: Count = 0
    """Generated pictures of known rows in a step, beside batch."""
    accumulate: Positive = 1
    """Parts that a process takes its share of a step in: less memory, the same gradient but for batch statistics."""
    full_size: bool = False
    """Draw the generator's full picture and pool it, where it has a cheaper 256-pixel head."""
    mirror: bool = True
    """Mirror half of the pictures, where the task allows it."""
    augment: bool = False
    """Also move, turn, scale and tint them a little."""
    optimizer: Literal["ranger", "adam", "adamw"] = "ranger"
    """Ranger is the paper's: RAdam with lookahead and centralised gradients."""
    lr: NotNegative = 1e-4
    """Learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Hold lr, or let it fall to a fiftieth along a cosine that ends at steps."""
    warmup: Count = 0
    """Steps over which lr rises from nothing."""
    steps: Positive = 300_000
    """Where the run ends."""
    minutes: NotNegative = 0
    """Stop after so many minutes, state saved (0: only at steps)."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged encoder, which is the one that is judged and saved (0: no average)."""
    clip: NotNegative = 0.0
    """Length to which gradients are cut (0: not)."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Numbers that networks compute in; weights stay fp32. fp16 needs CUDA."""
    checkpointing: bool = False
    """Compute the encoder's maps twice instead of keeping them: less memory, a third more time."""
    frugal: bool = False
    """Weights take their step as soon as their gradient is there; Ranger's slow weights lie on disk (on CPUs)."""
    compile: bool = False
    """torch.compile the encoder, on a GPU the generator too: minutes at first, then faster. CPUs need a compiler."""
    save_every: Positive = 500
    """Steps between saved states."""
    keep: Positive = 2
    """How many saved states are kept."""
    judge_every: Positive = 500
    """Steps between judgements of the validation pictures."""
    log_every: Positive = 50
    """Steps between lines of the log."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Who else is told, beside RUN/log.jsonl."""
    project: str = "pixel2style"
    """The W&B project."""
    readers: Positive = 4
    """Threads that read and prepare pictures."""
    memory: NotNegative = 4.0
    """GB of decoded pictures that each process keeps; the rest is read again each time."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute. auto takes CUDA or Apple's GPU where there is one."""
    seed: Count = 0
    """What every random choice follows from."""
