"""What the encoder of a task gets for a user's picture, and which requests are refused.

Axes: ``c`` channels of a source, ``s`` its side, ``r`` the generator's side, ``n`` samples, ``k`` rows, ``d`` width.
"""

from pathlib import Path

from PIL import Image
from torch import Tensor

from .. import assets, images, tasks
from ..config import ModelConfig
from ..editing import latents
from ..errors import CheckpointError, ConfigError
from ..faces.align import FaceAligner
from ..generators.base import Generator
from ..models import input_channels
from ..ops import COMPARE_SIZE
from ..tasks import Task
from ..tasks.request import Frame, Photograph, Prepared, Request

MOST_SAMPLES = 48
"""With more, the sheet of samples would have more pixels than ``images`` opens."""
TRUNCATION = 0.7
"""Of new rows: without truncation (as in the paper) every other sample has a colour that no face has."""


def model_for(task: str) -> str:
    """The bundled model of a task. Raises ConfigError for an unknown task, CheckpointError where none is bundled."""
    found = tasks.find_task(task)
    name = found.model or task
    if name in assets.names():
        return name
    how = f"train one (pixel2style train {list(found.presets)[-1]} --help) or " if found.presets else ""
    raise CheckpointError(f"no model for {task} is bundled: {how}name a file with --model")


def check(request: Request, config: ModelConfig, channels: int, model: str | Path) -> None:
    """Raise ConfigError if ``model``, of this configuration and ``channels`` of sources, cannot do what is asked."""
    task = tasks.find_task(request.task)
    if config.task != request.task:
        raise ConfigError(
            f"{model} was trained for {config.task}, not {request.task}: choose another --model, or its task"
        )
    if channels != tasks.channels_of(task, config.source):
        raise ConfigError(
            f"{model} reads {channels} channels, but sources of {request.task} have others: convert it again"
        )
    for name, given in (("factor", request.factor), ("mask", request.mask), ("keep_known", request.keep_known)):
        if given not in (None, False) and name not in task.options:
            owners = ", ".join(own for own, other in tasks.TASKS.items() if name in other.options)
            raise ConfigError(f"--{name.replace('_', '-')} is for {owners}: leave it out of {request.task}")
    if request.refine:
        require_refinable(request.task)
    if task.check_request is not None:
        task.check_request(request, config)
    check_numbers(request, config.encoder.rows)


def require_refinable(name: str) -> None:
    """Raise ConfigError for a task whose results are not to match their sources, or that is not installed."""
    task = tasks.task_or_none(name)
    if task is None or not task.refinable:
        raise ConfigError(f"--refine optimises towards what the picture shows, and {name} changes that: leave it out")


def check_numbers(request: Request, rows: int) -> None:
    """Raise ConfigError for numbers that are out of range for any task; the model has ``rows`` rows."""
    if request.refine is not None and request.refine < 0:
        raise ConfigError(f"--refine is a number of steps, not {request.refine}: leave it out, or try 5")
    if not 0 <= request.samples <= MOST_SAMPLES:
        raise ConfigError(f"--samples must be from 0 to {MOST_SAMPLES}, not {request.samples}")
    if not 0 <= request.alpha <= 1:
        raise ConfigError(f"--alpha must be from 0 (nothing changes) to 1 (rows are replaced), not {request.alpha}")
    if request.samples:
        latents.parse_rows(request.rows, rows)


def needs_face(request: Request) -> bool:
    """Whether a face has to be found in pictures for ``request``."""
    task = tasks.find_task(request.task)
    return request.align and task.faces and task.photograph


def prepare(
    given: Image.Image | str | Path, request: Request, config: ModelConfig, aligner: FaceAligner | None
) -> Prepared:
    """The source that an encoder of ``config`` gets for a file, or for an upright picture.

    ``aligner`` finds the face; None takes the middle square. Raises ImageError, NoFaceError, and ConfigError if the
    task reads files of another kind and gets a picture.
    """
    task = tasks.find_task(request.task)
    if not task.photograph:
        if isinstance(given, Image.Image):
            raise ConfigError(f"sources of {request.task} are read from files: give the path of one")
        source = tasks.read_source(task, Path(given), config.encoder.input_size, config.source)
        return Prepared(source, visible(source, task))
    given = given if isinstance(given, Image.Image) else Path(given)
    picture = given.convert("RGB") if isinstance(given, Image.Image) else images.load(given)
    frame = Frame.middle(picture) if aligner is None else Frame.around(aligner.find(picture).quad)
    photograph = Photograph(picture, frame, given)
    if task.prepare is not None:
        return task.prepare(photograph, request, config)
    return _plain(photograph, request, config, task)


def _plain(photograph: Photograph, request: Request, config: ModelConfig, task: Task) -> Prepared:
    """The photograph itself as source, or what the task makes of it if sources have not 3 channels."""
    size = config.generator.size
    height, width = config.encoder.input_shape
    whole = photograph.cut(size, round(size * height / width))
    if tasks.channels_of(task, config.source) == 3:
        return Prepared(images.to_tensor(whole), whole)
    target = images.to_tensor(whole.resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))
    source = tasks.make_source(task, target, request.random(), config.source)
    return Prepared(source, visible(source, task))


def resampled(ws: Tensor, generator: Generator, request: Request) -> Tensor:
    """Samples for one picture's rows ``[k d]``: ``[n k d]``. They follow from the seed, the first ones for any n."""
    many = ws[None].expand(request.samples, -1, -1)
    return latents.resample(many, generator, request.rows, request.seed, request.alpha, TRUNCATION)


def visible(source: Tensor, task: Task) -> Image.Image:
    """A source [c s s] as a picture for people."""
    return images.to_picture(input_channels.to_rgb(source[None], task.classes)[0])
