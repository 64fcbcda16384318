"""What the command line and the studio do, as functions: load a model once, then photographs in, pictures and rows out.

A photograph comes as an upright PIL picture (``images.load``) and leaves as PIL pictures and its rows ``ws`` [k d].
Files are written here too, so that every caller writes the same ones. This module does not know how a model is built,
nor how faces are found; and it never holds more pictures than one batch, so a folder may be of any length.
"""

import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from . import checkpoints, folders, images
from .errors import ConfigError, ImageError, OutputError, Pixel2StyleError
from .folders import Photo
from .model import PSP

if TYPE_CHECKING:
    from .align import FaceAligner

Device = Literal["auto", "cpu", "cuda", "mps"]

LATENTS = "latents.safetensors"
"""The file beside the pictures that holds every photograph's rows under its name."""
SIZES = (16, 4096)
"""Sides of an aligned photograph that make sense, pixels."""


@dataclass(frozen=True)
class Result:
    """One photograph there and back: ``aligned`` is what the encoder saw, ``ws`` [k d] what it made of it."""

    aligned: Image.Image
    reconstruction: Image.Image
    ws: Tensor

    @property
    def pair(self) -> Image.Image:
        """Photograph and reconstruction side by side, at the reconstruction's size."""
        width, height = self.reconstruction.size
        both = Image.new("RGB", (2 * width, height))
        both.paste(self.aligned.resize((width, height), Image.Resampling.LANCZOS), (0, 0))
        both.paste(self.reconstruction, (width, 0))
        return both


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph: the files written, by what they show, or why there are none."""

    photo: Photo
    files: Mapping[str, Path] = field(default_factory=dict)
    error: Pixel2StyleError | None = None


class Session:
    """A model and a face aligner on one device, each loaded when it is first used, and once."""

    def __init__(self, model: str | Path = "faces", device: Device = "auto"):
        self.source = model
        self._device = device

    @cached_property
    def device(self) -> torch.device:
        """Where the networks run. Raises ConfigError when the device asked for is not there."""
        return choose_device(self._device)

    @cached_property
    def model(self) -> PSP:
        """The model, ready. Raises CheckpointError, or ConfigError when it does not read photographs."""
        device = self.device
        model = checkpoints.load(self.source).to(device).eval()
        channels = model.source_channels
        if channels != 3:
            raise ConfigError(
                f"{self.source} reads pictures of {channels} channels, not photographs: choose another model"
            )
        return model

    @cached_property
    def aligner(self) -> "FaceAligner":
        """The face finder. It stays on the processor unless there is CUDA: its last step is not written for others."""
        from .align import FaceAligner  # brings torchvision, as heavy as torch, which cropped pictures do not need

        return FaceAligner(self.device if self.device.type == "cuda" else "cpu")

    def prepare(self, image: Image.Image, align: bool = True) -> Image.Image:
        """What the encoder gets to see, at the generator's size: the aligned face, or else the middle square.

        For an encoder of wide pictures it is the middle of that shape. Raises NoFaceError when a face is asked for and
        none is found.
        """
        side = self.model.config.generator.size
        height, width = self.model.encoder.config.input_shape
        shape = (side, round(side * height / width))
        cut = self.aligner.align(image, side) if align else image.convert("RGB")
        return cut if cut.size == shape else ImageOps.fit(cut, shape, Image.Resampling.LANCZOS)

    def invert(self, image: Image.Image | str | Path, align: bool = True) -> Result:
        """Photograph -> rows -> picture; ``image`` is an upright picture, or a file.

        Raises NoFaceError when ``align`` finds no face, ImageError when the file is no picture.
        """
        if not isinstance(image, Image.Image):
            image = images.load(image)
        return self._invert([self.prepare(image, align)])[0]

    def invert_many(
        self, photos: Iterable[Photo], align: bool = True, batch: int = 1
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        """Read and invert photographs in order, ``batch`` at a time; one that cannot be done yields its error."""
        _ = self.model  # a model that cannot be loaded is no fault of the first photograph
        for group in _batches(photos, batch):
            ready: dict[Photo, Image.Image] = {}
            failed: dict[Photo, Pixel2StyleError] = {}
            for photo in group:
                try:
                    ready[photo] = self.prepare(_opened(photo), align)
                except Pixel2StyleError as error:
                    failed[photo] = error
            results = dict(zip(ready, self._invert(list(ready.values())), strict=True)) if ready else {}
            for photo in group:
                yield photo, results[photo] if photo in results else failed[photo]

    @torch.no_grad()  # not inference_mode: whoever gets the rows may want to optimise them
    def _invert(self, aligned: list[Image.Image]) -> list[Result]:
        pixels = torch.stack([images.to_tensor(image) for image in aligned]).to(self.device)
        ws = self.model.encode(pixels)
        drawn = self.model.framed(self.model.decode(ws))
        return [
            Result(before, images.to_picture(after), rows)
            for before, after, rows in zip(aligned, drawn.float().cpu(), ws.float().cpu(), strict=True)
        ]


def invert_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    *,
    align: bool = True,
    batch: int = 1,
    overwrite: bool = False,
) -> Generator[Outcome, None, None]:
    """Invert photographs into a folder, one outcome each.

    A photograph NAME gives ``NAME.png`` (the reconstruction), ``NAME.pair.png`` and, when aligned,
    ``NAME.aligned.png``; the rows of all go to ``latents.safetensors``, last, also when the caller stops early, beside
    the rows that earlier runs have left there.
    Raises OutputError before anything is done when that cannot be written, see ``folders.claim``.
    """
    if batch < 1:
        raise ConfigError(f"a batch holds at least one photograph, not {batch}: pass --batch 1 or more")
    kinds = {"reconstruction": ".png", "pair": ".pair.png"} | ({"aligned": ".aligned.png"} if align else {})
    files = {photo: {kind: out / (photo.name + end) for kind, end in kinds.items()} for photo in photos}
    targets = [file for own in files.values() for file in own.values()]
    folders.claim(out, targets, [photo.path for photo in photos], overwrite)
    earlier, latents = rows_in(out / LATENTS), dict[str, Tensor]()
    try:
        for photo, result in session.invert_many(photos, align, batch):
            if isinstance(result, Pixel2StyleError):
                yield Outcome(photo, error=result)
                continue
            try:
                for kind, file in files[photo].items():
                    images.save(getattr(result, kind), file)
            except Pixel2StyleError as error:
                yield Outcome(photo, error=error)
                continue
            latents[photo.name] = result.ws
            yield Outcome(photo, files[photo])
    finally:
        if latents:
            checkpoints.save_tensors(earlier | latents, out / LATENTS)


def rows_in(file: Path) -> dict[str, Tensor]:
    """The rows that a ``latents.safetensors`` holds, by photograph; none when there is no such file.

    Raises OutputError when it is something else, so that nobody's rows are replaced by accident.
    """
    try:
        return load_file(file) if file.exists() else {}
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{file} holds no rows: move it away, or choose another --out") from error


def align_into(
    out: Path, photos: Sequence[Photo], session: Session, *, size: int = 1024, overwrite: bool = False
) -> Generator[Outcome, None, None]:
    """Cut the largest face out of each photograph into ``NAME.png``, ``size`` pixels wide; one outcome each.

    Raises OutputError before anything is done, see ``folders.claim``.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"--size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size}")
    files = {photo: out / f"{photo.name}.png" for photo in photos}
    folders.claim(out, list(files.values()), [photo.path for photo in photos], overwrite)
    for photo, file in files.items():
        try:
            images.save(session.aligner.align(_opened(photo), size), file)
        except Pixel2StyleError as error:
            yield Outcome(photo, error=error)
        else:
            yield Outcome(photo, {"aligned": file})


def convert(source: str | Path, out: Path, *, to: checkpoints.Layout = "ours", overwrite: bool = False) -> str:
    """Rewrite a model file as one of ours, or in somebody else's layout; says in a few words what it is.

    Raises OutputError before anything is read when ``out`` cannot be written, CheckpointError for a file that is none,
    ConfigError for a model that the layout has no room for.
    """
    if to == "ours" and out.suffix != checkpoints.SUFFIX:
        raise OutputError(f"{out} would not be found as a model: call it NAME{checkpoints.SUFFIX}")
    if to != "ours" and out.suffix not in (".pt", ".pth"):
        raise OutputError(f"{out} would be a PyTorch file, as {to} has them: call it NAME.pt")
    file = checkpoints.find(source)
    if out.exists() and out.resolve() == file.resolve():
        raise OutputError(f"{out} would replace the file that is converted: give another name")
    if out.is_dir() or (out.exists() and not overwrite):
        raise OutputError(f"{out} exists already: give another name{'' if out.is_dir() else ', or add --overwrite'}")
    folders.claim(out.parent, [out], [], overwrite)
    return checkpoints.convert(file, out, to)


def choose_device(name: Device) -> torch.device:
    """ "auto" is CUDA, else Apple's GPU, else the processor. Raises ConfigError for one that this machine lacks."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in there.items() if present))
    if not there[name]:
        raise ConfigError(f"there is no {name} device here: leave out --device, or pass --device cpu")
    return torch.device(name)


def _opened(photo: Photo) -> Image.Image:
    """The picture. Raises ImageError also where no result could carry its name."""
    path = str(photo.path)
    if path != path.encode(errors="replace").decode() or photo.name == "__metadata__":  # safetensors' own
        raise ImageError(f"{path} has a name that rows cannot be stored under: rename it")
    return images.load(photo.path)


def _batches(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    remaining = iter(photos)
    while group := list(itertools.islice(remaining, size)):
        yield group
