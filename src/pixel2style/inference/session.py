"""A model, loaded once: pictures in, pictures and rows out.

A picture comes as a file or an upright PIL picture (``images.load``) and leaves as PIL pictures and its rows ``ws``
[k d]. Inverting and translating are one path; they differ in what the encoder is shown (``translation``). This module
does not know how a model is built, nor where results go; and it never holds more pictures than one batch.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import checkpoints, images
from ..errors import ConfigError, ImageError, Pixel2StyleError
from ..faces.align import FaceAligner
from ..models.psp import PSP
from ..photos import Photo
from ..runtime import Device, choose_device
from ..tasks import TASKS
from . import prepare as translation
from .optimize import newton
from .optimize.adam import optimize_rows
from .prepare import Frame, Request, Shown


@dataclass(frozen=True)
class Result:
    """One picture there and back: ``aligned`` is what the encoder saw, ``ws`` [k d] what it made of it.

    ``samples`` are drawn of ``sample_ws`` [n k d], which differ from ``ws`` in some rows.
    """

    aligned: Image.Image
    reconstruction: Image.Image
    ws: Tensor
    samples: tuple[Image.Image, ...] = ()
    sample_ws: Tensor | None = None

    @property
    def pair(self) -> Image.Image:
        """What the encoder saw and what was drawn side by side, at the size of the latter."""
        return images.grid([self._seen(), self.reconstruction], 2)

    @property
    def sheet(self) -> Image.Image:
        """The pair and every sample at full size, nearly as many columns as rows."""
        tiles = [self._seen(), self.reconstruction, *self.samples]
        return images.grid(tiles, max(2, math.ceil(math.sqrt(len(tiles)))))

    def _seen(self) -> Image.Image:
        return self.aligned.resize(self.reconstruction.size, Image.Resampling.LANCZOS)


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
        """The model, ready. Raises CheckpointError."""
        device = self.device
        with torch.inference_mode(False):  # whoever asks first may be in it; gradients have to pass later
            return checkpoints.load(self.source).to(device).eval()

    @cached_property
    def aligner(self) -> FaceAligner:
        """The face finder. It stays on the processor unless there is CUDA, the only other device it was tried on."""
        return FaceAligner(self.device if self.device.type == "cuda" else "cpu")

    def frame(self, image: Image.Image, align: bool = True) -> Frame:
        """What counts of an upright picture: the face, or else the middle square.

        Raises NoFaceError when a face is asked for and none is found.
        """
        return Frame.around(self.aligner.find(image).quad) if align else Frame.middle(image)

    def prepare(self, image: Image.Image, align: bool = True) -> Image.Image:
        """What ``frame`` gives, cut out at the generator's size: what an encoder of photographs sees.

        For an encoder of wide pictures it is the middle of that shape.
        """
        size = self.model.config.generator.size
        height, width = self.model.encoder.config.input_shape
        return self.frame(image, align).cut(image, size, round(size * height / width))

    def invert(self, image: Image.Image | str | Path, align: bool = True, refine: int | None = None) -> Result:
        """Photograph -> rows -> picture; ``image`` is an upright picture, or a file.

        After the encoder, rows take ``refine`` steps towards the photograph: of ``descent``, where the generator's
        curvature is known (the bundled one), else of Adam (``refine.optimize_rows``), which needs ten times as many.
        None: one step where curvature is known, else none; 0: what the encoder says.
        Raises NoFaceError when ``align`` finds no face, ImageError when the file is no picture, ConfigError when the
        model reads no photographs.
        """
        return self._alone(image, self._inversion(align, refine))

    def translate(
        self,
        image: Image.Image | str | Path,
        align: bool = True,
        *,
        factor: int | None = None,
        mask: str | Path | None = None,
        keep_known: bool = False,
        samples: int = 0,
        rows: str = Request.rows,
        seed: int = 0,
        alpha: float = 1.0,
        refine: int | None = None,
    ) -> Result:
        """What the model's task makes of a file, or of an upright picture; options as of ``pixel2style translate``.

        Raises what ``invert`` does, and ConfigError for options that do not go with the task.
        """
        request = Request(self.model.config.task, align, factor, mask, keep_known, samples, rows, seed, alpha, refine)
        translation.check(request, self.model.config, self.model.source_channels, self.source)
        return self._alone(image, request)

    def invert_many(
        self, photos: Iterable[Photo], align: bool = True, batch: int = 1, refine: int | None = None
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        """Read and invert photographs in order, ``batch`` at a time; one that cannot be done yields its error."""
        return self._many(photos, self._inversion(align, refine), batch)

    def translate_many(
        self, photos: Iterable[Photo], request: Request, batch: int = 1
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        """Read and translate pictures as ``invert_many`` inverts them. Raises ConfigError as ``translate`` does."""
        translation.check(request, self.model.config, self.model.source_channels, self.source)
        return self._many(photos, request, batch)

    def _inversion(self, align: bool, refine: int | None) -> Request:
        channels = self.model.source_channels
        if channels != 3:
            raise ConfigError(
                f"{self.source} reads pictures of {channels} channels, not photographs: choose another model"
            )
        request = Request("invert", align, refine=refine)
        translation.check_numbers(request, self.model.encoder.config.rows)
        if refine and not self._shows_target:
            translation.refuse_refining(self.model.config.task)
        return request

    def _alone(self, image: Image.Image | str | Path, request: Request) -> Result:
        mask = translation.opened_mask(request)
        return self._drawn([translation.show(image, request, self.model.config, self.frame, mask)], request)[0]

    def _many(
        self, photos: Iterable[Photo], request: Request, batch: int
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        mask = translation.opened_mask(request)
        for group in _batches(photos, batch):
            ready: dict[Photo, Shown] = {}
            failed: dict[Photo, Pixel2StyleError] = {}
            for photo in group:
                try:
                    ready[photo] = translation.show(named(photo), request, self.model.config, self.frame, mask)
                except Pixel2StyleError as error:
                    failed[photo] = error
            results = dict(zip(ready, self._drawn(list(ready.values()), request), strict=True)) if ready else {}
            for photo in group:
                yield photo, results[photo] if photo in results else failed[photo]

    @torch.no_grad()  # not inference_mode: whoever gets the rows may want to optimise them
    def _drawn(self, shown: list[Shown], request: Request) -> list[Result]:
        sources = torch.stack([one.source for one in shown]).to(self.device)
        all_ws = self.model.encode(sources)
        steps = self._steps(request)
        if steps:
            all_ws = torch.cat([self._refined(one, ws, steps) for one, ws in zip(shown, all_ws, strict=True)])
        results = []
        for one, drawn, ws in zip(shown, self._draw(all_ws), all_ws, strict=True):
            result = Result(one.picture, one.finished(drawn), ws.float().cpu())
            if request.samples:
                many = translation.resampled(ws, self.model.generator, request)
                # one at a time: however many are asked for, memory holds one on its way
                samples = (self._draw(rows[None])[0] for rows in many)
                result = replace(result, samples=tuple(map(one.finished, samples)), sample_ws=many.float().cpu())
            results.append(result)
        return results

    def _refined(self, shown: Shown, ws: Tensor, steps: int) -> Tensor:
        """Better rows [1 k d] for what a source shows, and how much of a picture that is."""
        picture = shown.source[None, :3]
        if self._corrector is None:
            return optimize_rows(self.model, picture, ws[None], steps=steps, shown=shown.through)
        return self._corrector(picture, ws[None], steps, shown=shown.through)

    def _steps(self, request: Request) -> int:
        if request.refine is not None:
            return request.refine
        return int(self._shows_target and self._corrector is not None)

    @property
    def _shows_target(self) -> bool:
        """Whether what the model was taught leaves a picture as it is; who taught it may not have said here."""
        task = TASKS.get(self.model.config.task)
        return task is not None and task.shows_target

    @cached_property
    def _corrector(self) -> newton.Corrector | None:
        """What corrects rows, where the generator's curvature is known."""
        with torch.inference_mode(False):
            curvature = newton.bundled(self.model)
            if curvature is None:
                return None
            task = TASKS.get(self.model.config.task)
            faces = task is None or task.faces
            loss = newton.LOSS if faces else replace(newton.LOSS, identity=0.0)
            return newton.Corrector(self.model, curvature, loss)

    def _draw(self, ws: Tensor) -> Tensor:
        return self.model.framed(self.model.decode(ws)).float().cpu()


def named(photo: Photo) -> Path:
    """The file. Raises ImageError where no result could carry its name."""
    path = str(photo.path)
    if path != path.encode(errors="replace").decode() or photo.name == "__metadata__":  # safetensors' own
        raise ImageError(f"{path} has a name that rows cannot be stored under: rename it")
    return photo.path


def _batches(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    remaining = iter(photos)
    while group := list(itertools.islice(remaining, size)):
        yield group
