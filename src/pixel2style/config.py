"""Configurations of models and of training runs: frozen, validated, without torch.

A checkpoint has its model's configuration in its metadata; the networks are built from it before weights are read. A
run's folder has the run's configuration, which repeats the run. The docstrings of TrainConfig's fields, and of those of
its groups, are the help of ``pixel2style train``.
"""

from collections.abc import Mapping
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
    """Parameters of a StyleGAN3 (arXiv 2106.12423, section 3 and appendix E); the defaults are those of T.

    Frequencies are in cycles per picture width, at the first layer; ``*_rel`` are multiples of the cutoff at the
    picture's resolution.
    """

    layers: Positive = 14
    """Convolutions before the one that outputs RGB."""
    critical: Count = 2
    """How many of the last layers are critically sampled: they keep all frequencies up to half the sampling rate."""
    first_cutoff: PositiveFloat = 2.0
    first_stopband: PositiveFloat = 2**2.1
    last_stopband_rel: PositiveFloat = 2**0.3
    margin: Count = 10
    """Pixels of margin around the picture at every layer."""
    output_scale: PositiveFloat = 0.25
    kernel: Literal[1, 3] = 3
    """Size of the convolution kernels: 3 (T), or 1 (R)."""
    filter_size: Positive = 6
    """Taps of the low-pass filters per pixel at the lower of the two resolutions."""
    lrelu_upsampling: Positive = 2
    """Upsampling factor during LeakyReLU."""
    radial: bool = False
    """Whether downsampling filters are radially symmetric (R)."""


@dataclass(frozen=True, config=_STRICT)
class GeneratorConfig:
    """A generator of ``size`` x ``size`` pictures from rows of ``width`` numbers."""

    kind: str = "stylegan2"
    """A key of ``generators.GENERATORS``."""
    size: Positive = 1024
    width: Positive = 512
    mapping_layers: Positive = 8
    channel_multiplier: Positive = 2
    """Channels above 32 pixels, in the usual table (``sizes.channels_at``)."""
    channels: tuple[Positive, ...] = ()
    """Channels that do not follow the table: of the maps at 4, 8, ... ``size`` pixels (StyleGAN2); of the input, then
    of every layer (StyleGAN3)."""
    noise_width: Count = 0
    """Width of ``map``'s input; 0: ``width``."""
    classes: Count = 0
    """Numbers in a label, for a conditional generator; 0: unconditional."""
    clamp: PositiveFloat | None = None
    """Magnitude to which outputs of convolutions are clamped (StyleGAN2-ADA and StyleGAN3: 256)."""
    alias_free: AliasFreeConfig | None = None
    """Parameters of a StyleGAN3; None for other kinds."""


@dataclass(frozen=True, config=_STRICT)
class EncoderShape:
    """A network from a picture to rows (pSp, section 3), without what its task and its generator determine."""

    kind: Literal["pyramid", "single_w", "last_layer", "e4e", "top", "top_e4e"] = "pyramid"
    """How rows are computed: from a feature pyramid (the paper); one W for all rows; all rows by one layer from the
    last map; from a pyramid, as one row and differences to it (e4e); each by its own head from the last map
    (ReStyle); or the last two combined (ReStyle with e4e)."""
    trunk: Literal["ir_se50", "resnet34", "mobilefacenet"] = "ir_se50"
    """The backbone: the paper's, a ResNet (as ReStyle uses for other domains than faces), or the compact one."""
    input_size: Positive = 256
    """Width of the trunk's input, a multiple of 16."""
    input_height: Count = 0
    """Height of the trunk's input where it is less than its width, a multiple of 16 too: the middle of the generator's
    square picture (published encoders of cars: 192 of 256). 0: square."""
    pyramid_width: Positive = 512
    """Channels of the pyramid."""
    heads: Literal["separate", "shared"] = "separate"
    """Separate convolutions for each row (the paper), or a stride-2 tower per pyramid level and two layers per row."""
    tower_width: Positive = 512
    """Channels at the end of a shared tower."""
    head_width: Positive = 512
    """Width between the two layers of a row on a shared tower."""
    neck: Count = 0
    """Residual units after the trunk's last map."""

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the trunk's input."""
        return self.input_height or self.input_size, self.input_size


@dataclass(frozen=True, config=_STRICT)
class EncoderConfig(EncoderShape):
    """A complete encoder: its shape, its input channels and its rows."""

    input_channels: Positive = 3
    rows: Positive = 18
    width: Positive = 512


@dataclass(frozen=True, config=_STRICT)
class DetailShape:
    """A detail encoder (``models.detail``) without what its generator determines."""

    side: Positive = 32
    """Side of the coarse map that gets a residual; the pictures that the network sees have eight times that
    side."""
    width: Positive = 192
    """Channels of the network at the coarse map."""
    units: Positive = 6
    """Residual units at the coarse map."""
    fine_width: Count = 96
    """Channels of the network at the fine map, which has twice the side. 0: no residual for that map."""
    fine_units: Count = 2
    """Residual units at the fine map."""
    toward_w: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the way to their mean that rows move before features are found for them: nearer to W, edits change
    more, and features make up for what rows lose."""


@dataclass(frozen=True, config=_STRICT)
class DetailConfig(DetailShape):
    """A complete detail encoder: residuals for one or two maps of the generator."""

    channels: tuple[Positive, Positive] = (512, 512)
    """Channels of the generator's maps of ``side`` and of twice ``side`` pixels."""
    needs_task: bool = False
    """Whether it takes what the model's task makes of a source and of what the rows draw (``Task.shown``), not a
    photograph."""

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the maps that residuals are for."""
        return (self.side, 2 * self.side) if self.fine_width else (self.side,)

    def fits(self, maps: Mapping[int, int]) -> bool:
        """Whether a generator with ``maps`` (channels by side) has those that residuals are for."""
        return all(maps.get(side) == channels for side, channels in zip(self.sides, self.channels, strict=False))


@dataclass(frozen=True, config=_STRICT)
class SourceConfig:
    """How sources are made or read; each task uses the fields that it needs (docs/tasks.md)."""

    classes: Positive = 19
    """Classes of label maps: their numbers go from 0 to one less than this."""
    colours: tuple[str, ...] = ()
    """For label maps drawn in colours: #rrggbb of each class in order, one file that lists them, or celebamask for
    those of CelebAMask-HQ."""
    sided: tuple[Count, ...] = ()
    """For label maps: classes that change places in a mirrored map, two by two (of CelebAMask-HQ: 4 5 6 7 8 9). Without
    them maps are never mirrored."""
    factors: tuple[Positive, ...] = (1, 2, 4, 8, 16, 32)
    """How many times smaller sources of few pixels are, drawn at random from these."""
    masks: tuple[Literal["box", "half", "strokes"], ...] = ("box", "half", "strokes")
    """What hides a part of the source, drawn at random from these."""
    sketches: tuple[Literal["pencil", "lines", "shaded", "outline"], ...] = ("pencil", "lines", "shaded")
    """Styles of sketches that are made from photographs, drawn at random from these."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """An encoder, its generator, and how they are connected.

    ``add_average``: the encoder outputs the difference of the rows to the average (all released models).
    ``feedback``: the encoder also gets its current reconstruction as three more channels, starts from the picture of
    the average, and corrects itself for ``iterations`` passes (ReStyle, arXiv 2104.02699).
    ``task`` and ``source`` say what pictures it was trained to read (see ``tasks``).
    """

    encoder: EncoderConfig
    generator: GeneratorConfig
    add_average: bool = True
    feedback: bool = False
    iterations: Positive = 1
    task: str = DEFAULT_TASK
    source: SourceConfig = SourceConfig()
    detail: DetailConfig | None = None
    """The detail encoder, of a model that has one."""


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Weights of the loss terms, and the networks that they use; the network of a term with weight 0 is never built."""

    l2: NotNegative = 1.0
    """Squared difference of pixels."""
    lpips: NotNegative = 0.8
    """Perceptual distance (LPIPS)."""
    edges: NotNegative = 0.0
    """Squared difference of the differences of neighbouring pixels: fine lines and strong colours."""
    identity: NotNegative = 0.1
    """1 - cosine of face-identity vectors; not together with similarity."""
    w_norm: NotNegative = 0.0
    """Distance of the rows to the average (the paper's regulariser)."""
    l2_crop: NotNegative = 0.0
    """l2 of the crop to the face."""
    lpips_crop: NotNegative = 0.0
    """lpips of the crop to the face."""
    similarity: NotNegative = 0.0
    """1 - cosine of general features, for other pictures than faces; not together with identity."""
    code_norm: NotNegative = 0.0
    """Mean square of the codes (rows minus average, in units of W's standard deviation): keeps rows near W."""
    code_regression: NotNegative = 0.0
    """Squared difference to the known rows of generated pictures."""
    detail: NotNegative = 0.0
    """lpips of full-size windows of generated pictures; needs generated and full_size."""
    residual: NotNegative = 0.0
    """Of a detail encoder: mean square of each residual, in units of its map's deviation."""
    windows: NotNegative = 0.0
    """Of a detail encoder: lpips and l2 of three full-size windows of each generated picture."""
    roughness: NotNegative = 0.0
    """Of a detail encoder: squared log of full-size roughness beyond that of the picture of the rows alone."""
    lpips_net: Literal["alex", "vgg", "squeeze"] = "alex"
    """Network of lpips."""
    identity_network: str = "mobilefacenet"
    """Network of identity: mobilefacenet, or the file of ArcFace IR-SE50."""
    similarity_network: str = "alex"
    """Network of similarity: alex, or the file of a MoCo-v2 ResNet-50."""


@dataclass(frozen=True, config=_STRICT)
class DetailRun(DetailShape):
    """What only a run of a detail encoder has: its shape, and what it is trained on."""

    start: Literal["own", "new"] = "own"
    """own: continue the model's own detail encoder where it has one; new: begin with another."""
    full_size_from: Count = 0
    """Step from which pictures are drawn at full size (with full_size), which costs several times as much."""
    full_batch: Count = 0
    """Pictures of data in a step at full size, in place of batch. 0: as many."""
    newton: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the pictures whose rows take a Newton step, as those of invert do; where the curvature is known."""
    pool: Positive = 256
    """How many different generated pictures there are."""
    cache: str = ""
    """Folder in which the frozen networks' results are kept, for any run: 0.2 MB for each picture and its mirror image,
    3.5 MB for a generated one. Not with augment, where no picture occurs twice."""


RENAMED = {"looks": "iterations", "one_look_until": "one_iteration_until"}
"""Fields of a TrainConfig that had another name in 0.4: still read in a run's config.json and as options."""


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """A training run. The same command again resumes it (``run_folder.MAY_CHANGE`` lists what may differ)."""

    network: Literal["encoder", "detail"] = "encoder"
    """What is trained: the encoder of rows, or the detail encoder of a model whose other parts are frozen."""
    task: str = DEFAULT_TASK
    """What sources and targets are; pixel2style translate --help lists the tasks."""
    data: tuple[str, ...] = ()
    """Folders of pictures, sampled in proportion to the square root of their sizes. Faces must be aligned: use
    pixel2style align."""
    targets: tuple[str, ...] = ()
    """Folders of target pictures, one for each of data, paired by file stem; without them, data are the targets."""
    out: str = ""
    """Folder of the run: configuration, log, states and models."""
    validation: tuple[str, ...] = ()
    """Folders of pictures to evaluate the run with; never trained on."""
    validation_targets: tuple[str, ...] = ()
    """Folders of target pictures of validation, as targets are of data."""
    source: SourceConfig = SourceConfig()
    generator: str | None = None
    """The frozen generator: a bundled name, or a file. None: the one of start_from, else the bundled one."""
    start_from: str | None = None
    """A model to start from: its encoder, and its generator unless another is given. For a detail encoder: the model
    that it is for, or a detail encoder alone, which is for the bundled faces."""
    trunk_weights: str | None = None
    """A file of weights for the trunk of a new encoder: ArcFace IR-SE50 (ir_se50), torchvision ResNet-34 (resnet34)."""
    encoder: EncoderShape = EncoderShape()
    feedback: bool = False
    """Whether the encoder also gets its own reconstruction and corrects it (ReStyle)."""
    detail: DetailRun = DetailRun()
    loss: LossConfig = LossConfig()
    iterations: Positive = 1
    """Passes of the encoder over each picture; more than one needs feedback."""
    rows_until: Count = 0
    """Step until which nothing is drawn: rows are compared to those that the model named as teacher gives to the
    target, which costs a third."""
    teacher: str = "faces"
    """The model of photographs that rows_until compares with."""
    one_iteration_until: Count = 0
    """Step until which only one iteration is made, so that the second starts from useful rows."""
    batch: Positive = 8
    """Pictures of data in a step, over all processes and accumulated parts."""
    generated: Count = 0
    """Generated pictures with known rows in a step, added to batch."""
    accumulate: Positive = 1
    """Parts in which a process computes its share of a step: less memory, the same gradient except batch statistics."""
    full_size: bool = False
    """Draw pictures at the generator's full size, even where it has a cheaper 256-pixel head."""
    mirror: bool = True
    """Mirror half of the pictures, where the task allows it."""
    augment: bool = False
    """Also shift, rotate, scale and recolour them slightly."""
    optimizer: Literal["ranger", "adam", "adamw", "muon"] = "ranger"
    """Ranger is the paper's: RAdam with lookahead and centralised gradients. Muon is for detail encoders: 1.5 times lr
    for hidden convolutions; other weights take AdamW and lr."""
    lr: NotNegative = 1e-4
    """Learning rate."""
    schedule: Literal["constant", "cosine", "trapezoid"] = "constant"
    """Constant lr; a cosine from lr to a fiftieth of it at the last step; or lr, and in the last 30 % of the steps a
    line from it to 3 %."""
    warmup: Count = 0
    """Steps in which lr rises from zero."""
    steps: Positive = 300_000
    """The last step of the run."""
    minutes: NotNegative = 0
    """Stop after this many minutes and save the state (0: no limit)."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the encoder, which is evaluated and saved (0: no average)."""
    clip: NotNegative = 0.0
    """Norm to which gradients are clipped (0: no clipping)."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Precision of the networks; weights stay fp32. fp16 needs CUDA."""
    checkpointing: bool = False
    """Compute the encoder's feature maps twice instead of keeping them: less memory, a third more time."""
    frugal: bool = False
    """Update each weight as soon as its gradient is computed, then free the gradient. One process, no clipping, no
    accumulation, one iteration."""
    compile: bool = False
    """torch.compile the encoder, on a GPU the generator too: minutes at first, then faster. CPUs need a compiler."""
    save_every: Positive = 500
    """Steps between saved states."""
    keep: Positive = 2
    """Saved states that are kept."""
    judge_every: Positive = 500
    """Steps between evaluations of the validation pictures."""
    log_every: Positive = 50
    """Steps between lines of the log."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Trackers in addition to RUN/log.jsonl."""
    project: str = "pixel2style"
    """The W&B project."""
    readers: Positive = 4
    """Threads that read and prepare pictures."""
    memory: NotNegative = 4.0
    """GB of decoded pictures that each process keeps in memory; others are read again each time."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute. auto uses CUDA or Apple's GPU if there is one."""
    seed: Count = 0
    """Seed of all random numbers."""
