"""What the encoder of a task gets for a user's picture, and which requests are refused.

Axes: ``c`` channels of a source, ``s`` its side, ``r`` the generator's side, ``n`` samples, ``k`` rows, ``d`` width.
"""

from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from .. import assets, images, tasks
from ..config import ModelConfig, SourceConfig
from ..editing import latents
from ..errors import CheckpointError, ConfigError, NoFaceError
from ..faces.align import Choice, FaceAligner, Points, check_choice, from_left, pick
from ..generators.base import Generator
from ..generators.sampling import seeded
from ..models import input_channels
from ..ops import COMPARE_SIZE
from ..photos import Photo
from ..tasks import Task
from ..tasks.request import Frame, Photograph, Prepared, Request

MOST_SAMPLES = 48
"""With more, the sheet of samples would have more pixels than ``images`` opens."""
OPTIONS = ("factor", "mask", "keep_known", "make_sketch", "make_labels", "like", "colours")
"""Fields of a request that not every task has."""
TRUNCATION = 0.7
"""Of new rows: without truncation (as in the paper) every other sample has a colour that no face has."""
LOOK = "8-"
"""Rows of colour and light."""


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
    for name in OPTIONS:
        if getattr(request, name) not in (None, False) and name not in task.options:
            owners = ", ".join(own for own, other in tasks.TASKS.items() if name in other.options)
            raise ConfigError(f"--{name.replace('_', '-')} is for {owners}: leave it out of {request.task}")
    if request.refine:
        require_refinable(request.task)
    source_settings(request, config)
    if task.check_request is not None:
        task.check_request(request, config)
    check_numbers(request, config.encoder.rows)


def source_settings(request: Request, config: ModelConfig) -> SourceConfig:
    """The model's settings of sources, with the colours of classes that are asked for. Raises ConfigError for these."""
    if request.colours is None:
        return config.source
    return tasks.read_settings(tasks.find_task(request.task), replace(config.source, colours=(str(request.colours),)))


def check_seed(request: Request, config: ModelConfig) -> None:
    """Raise ConfigError for a seed that is asked for where nothing is drawn at random."""
    task = tasks.find_task(request.task)
    made = request.makes_source or (
        task.photograph and (task.prepare is not None or tasks.channels_of(task, config.source) != 3)
    )
    if not (request.samples or (made if task.random is None else task.random(request))):
        drawn = " or --mask box" if "mask" in task.options else ""
        raise ConfigError(f"--seed decides what is random, and nothing is: add --samples 4{drawn}, or leave it out")


def require_refinable(name: str) -> None:
    """Raise ConfigError for a task whose results are not to match their sources, or that is not installed."""
    task = tasks.task_or_none(name)
    if task is None or not (task.refinable or task.agreement):
        raise ConfigError(f"--refine optimises towards what the picture shows, and {name} changes that: leave it out")


def require_photographs(request: Request) -> None:
    """Raise ConfigError where sources are no photographs, so that results cannot be pasted into them."""
    if not tasks.find_task(request.task).photograph:
        raise ConfigError(f"--paste puts faces into photographs, and {request.task} has none: leave it out")


def check_numbers(request: Request, rows: int) -> None:
    """Raise ConfigError for numbers that are out of range for any task; the model has ``rows`` rows."""
    if request.face is not None:
        check_face(request)
    numbers: dict[str, object] = {"refine": request.refine, "samples": request.samples, "seed": request.seed}
    for name, number in numbers.items():
        if not isinstance(number, Integral) and not (name == "refine" and number is None):
            raise ConfigError(f"--{name} is a whole number, not {number!r}")
    seeded(request.seed)
    if request.refine is not None and request.refine < 0:
        raise ConfigError(f"--refine is a number of steps, not {request.refine}: leave it out, or try 5")
    if not 0 <= request.samples <= MOST_SAMPLES:
        raise ConfigError(f"--samples must be from 0 to {MOST_SAMPLES}, not {request.samples}")
    check_alpha(variation(request)[1])
    if request.samples:
        latents.parse_rows(variation(request)[0], rows)
    elif not request.like and not (request.rows is None and request.alpha is None):
        like = " or --like PHOTO" if "like" in tasks.find_task(request.task).options else ""
        raise ConfigError(f"--rows and --alpha say what --samples replace: add --samples 4{like}, or leave them out")
    if request.like:
        latents.parse_rows(look(request)[0], rows)


def check_alpha(alpha: object) -> None:
    """Raise ConfigError for what is no share of a row."""
    if not isinstance(alpha, Real) or not 0 <= float(alpha) <= 1:
        raise ConfigError(f"--alpha must be from 0 (nothing changes) to 1 (rows are replaced), not {alpha!r}")


def check_face(request: Request) -> None:
    """Raise ConfigError where no face is looked for, or for one that is neither named nor numbered."""
    if not needs_face(request):
        why = "--no-align looks for none" if not request.align else f"{request.task} looks for none"
        raise ConfigError(f"--face chooses a face in photographs, and {why}: leave one of the two out")
    if str(request.face) == "all":
        raise ConfigError("all faces are several results: take Session.each_face(photos), then invert_many")
    check_choice(request.face)


def needs_face(request: Request) -> bool:
    """Whether a face has to be found in pictures for ``request``."""
    task = tasks.find_task(request.task)
    return request.align and task.faces and (task.photograph or request.makes_source)


def prepare(
    given: images.Given,
    request: Request,
    config: ModelConfig,
    aligner: FaceAligner | None,
    photo: Photo | None = None,
) -> Prepared:
    """The source that an encoder of ``config`` gets for a file, or for a picture as ``images.opened`` takes it.

    ``aligner`` finds the face, unless ``photo`` says where it is; None takes the middle square. Raises ImageError,
    NoFaceError, and ConfigError if the task reads files of another kind and gets a picture.
    """
    task = tasks.find_task(request.task)
    opened = images.opened(given)
    if not (task.photograph or request.makes_source):
        if isinstance(opened, Image.Image):
            raise ConfigError(f"sources of {request.task} are read from files: give the path of one")
        source = tasks.read_source(task, opened, config.encoder.input_size, source_settings(request, config))
        doubts = () if task.doubts is None else task.doubts(images.load(opened))
        return Prepared(source, visible(source, task), notes=doubts)
    picture = images.to_rgb(opened) if isinstance(opened, Image.Image) else images.load(opened)
    frame, notes = Frame.middle(picture), tuple[str, ...]()
    if aligner is not None:
        try:
            landmarks, notes = locate(picture, request.face, aligner, photo)
        except NoFaceError as error:
            raise error if isinstance(opened, Image.Image) else NoFaceError(f"{opened}: {error}") from error
        frame = Frame.around(landmarks)
    photograph = Photograph(picture, frame, opened)
    make = partial(_plain, task=task) if task.prepare is None else task.prepare
    made = make(photograph, request, config)
    return replace(made, notes=notes + made.notes, photograph=photograph)


def locate(
    picture: Image.Image, choice: Choice | None, aligner: FaceAligner, photo: Photo | None = None
) -> tuple[Points, tuple[str, ...]]:
    """The landmarks [5 2] of the chosen face, or of the one of ``photo``; and what the user should know about it.

    Raises NoFaceError.
    """
    if photo is not None and photo.landmarks is not None:
        return np.array(photo.landmarks), _turned(photo.turned)
    faces = aligner.detect_turned(picture)
    face = pick(faces, "largest" if choice is None else choice, picture.size)
    notes = _turned(face.turned)
    if len(faces) > 1 and choice is None:
        number = from_left(faces, picture.size).index(face) + 1
        notes += (f"shows {len(faces)} faces; the largest, number {number} from the left, was taken: see --face",)
    return face.landmarks, notes


def _turned(degrees: int) -> tuple[str, ...]:
    """What a user should know of a photograph that has to be turned, counter-clockwise, to be upright."""
    how = {90: "lies on its side", 180: "is upside down", 270: "lies on its side"}
    return (f"{how[degrees]}: its face was turned upright",) if degrees else ()


def _plain(photograph: Photograph, request: Request, config: ModelConfig, task: Task) -> Prepared:
    """The photograph itself as source, or what the task makes of it if sources have not 3 channels.

    It is reduced here, since the bilinear reduction of ``PSP.encode`` blurs it.
    """
    size = config.generator.size
    height, width = config.encoder.input_shape
    whole = photograph.cut(size, round(size * height / width))
    if tasks.channels_of(task, config.source) == 3:
        side = min(size, max(COMPARE_SIZE, width))
        shown = photograph.reduced(whole, (side, round(side * height / width)))
        return Prepared(images.to_tensor(shown), whole)
    target = images.to_tensor(whole.resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))
    source = tasks.make_source(task, target, request.random(), config.source)
    return Prepared(source, visible(source, task))


def variation(request: Request) -> tuple[str, float]:
    """Rows that samples replace by new ones, and how much: all of the rows that are asked for, or what the task says.

    Samples of a face with the look of a photograph keep it, unless rows are asked for.
    """
    rows, alpha = tasks.find_task(request.task).variation
    if request.rows is not None:
        rows, alpha = request.rows, 1.0
    elif request.like is not None:
        rows = latents.GROUPS["medium"]
    return rows, alpha if request.alpha is None else request.alpha


def look(request: Request) -> tuple[str, float]:
    """Rows that the result takes from the photograph ``like``, and how much: by default all of ``LOOK``."""
    return request.rows or LOOK, 1.0 if request.alpha is None else request.alpha


def resampled(ws: Tensor, generator: Generator, request: Request) -> Tensor:
    """Samples for one picture's rows ``[k d]``: ``[n k d]``. They follow from the seed, the first ones for any n."""
    many = ws[None].expand(request.samples, -1, -1)
    rows, alpha = variation(request)
    return latents.resample(many, generator, rows, request.seed, alpha, TRUNCATION)


def looks(generator: Generator, count: int, seed: int) -> Tensor:
    """New rows for samples to take: ``[n k d]``."""
    blank = generator.w_avg.new_zeros(count, generator.rows, generator.width)
    return latents.resample(blank, generator, slice(None), seed, truncation=TRUNCATION)


def visible(source: Tensor, task: Task) -> Image.Image:
    """A source [c s s] as a picture for people."""
    return images.to_picture(input_channels.to_rgb(source[None], task.classes)[0])
