"""A model, loaded once: pictures in, pictures and rows out.

One photograph passes ``prepare`` (align, make the source), ``model.encode``, ``optimize`` (a few steps on the rows,
where that is possible), ``model.with_detail`` (what rows cannot carry), ``model.decode`` and ``prepared.finish``.
Inversion and translation are this one path; never more pictures than one batch are in memory.

Axes: ``n`` samples, ``k`` rows, ``d`` width of a row.
"""

import copy
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import checkpoints, images, tasks
from ..checkpoints.editor import bundled_editor
from ..config import DEFAULT_TASK
from ..editing import latents, local, regions
from ..editing.carry import Carrier, between
from ..errors import ConfigError, ImageError, Pixel2StyleError
from ..faces.align import Choice, Face, FaceAligner, crop, from_left
from ..generators.base import Generator, Residuals
from ..generators.sampling import draw, seeded
from ..metrics import attributes
from ..metrics.attributes import FaceAttributes
from ..models import given
from ..models.editor import Editor
from ..models.inversion import Inversion
from ..models.psp import PSP
from ..ops import COMPARE_SIZE
from ..photos import Photo, listed
from ..runtime import Device, Precision, bf16_of, choose_device, fast_in_bf16, survive_fork
from ..tasks import Task
from ..tasks.pencils import Style
from ..tasks.request import Frame, Photograph, Prepared, Request
from . import paint, whole
from . import prepare as preparation
from . import refine as refinement
from .optimize import maps, weights
from .refine import Fidelity, Goal, Watch
from .rows import Fitter

FAR = 1.3
"""``Result.distance`` of pictures that are probably no aligned faces (docs/results.md)."""


@dataclass(frozen=True)
class Result:
    """What was made of one picture: ``aligned`` is what the encoder saw, ``ws`` [k d] are the rows.

    ``features`` are residuals [c s s] by the side s of the generator's map that they are added to; none where only rows
    were asked for, or the model has no detail encoder. ``samples`` are drawn from ``sample_ws`` [n k d], which differ
    from ``ws`` in some rows, and from the same features; those of a degraded source have features of their own.
    ``generator`` is the copy that draws the reconstruction from rows, where one was tuned.

    ``distance`` says how far the photograph is from what the generator draws: the loss that rows alone leave, plus
    their mean squared distance from the average in deviations of W. None where it is not known.

    ``notes`` are what the user should know: that the photograph shows several faces and none was chosen, or was turned.
    ``photograph`` is the whole one, and where its face lies; None where a task's sources are files. ``pasted`` is the
    whole photograph with all its results, where that was asked for. ``hidden`` is that of ``Prepared``.
    """

    aligned: Image.Image
    reconstruction: Image.Image
    ws: Tensor
    samples: tuple[Image.Image, ...] = ()
    sample_ws: Tensor | None = None
    features: Mapping[int, Tensor] = field(default_factory=dict)
    generator: Generator | None = None
    distance: float | None = None
    notes: tuple[str, ...] = ()
    photograph: Photograph | None = None
    pasted: Image.Image | None = None
    hidden: Tensor | None = None

    @property
    def far(self) -> bool:
        """Whether the photograph is probably not what the generator draws, so that edits may not work."""
        return self.distance is not None and self.distance > FAR

    @property
    def pair(self) -> Image.Image:
        """What the encoder saw and the reconstruction side by side, at the size of the latter."""
        return images.grid([self._seen(), self.reconstruction], 2)

    @property
    def sheet(self) -> Image.Image:
        """The pair and every sample at full size, nearly as many columns as rows."""
        tiles = [self._seen(), self.reconstruction, *self.samples]
        return images.grid(tiles, max(2, math.ceil(math.sqrt(len(tiles)))))

    @property
    def strip(self) -> Image.Image:
        """All samples in a line."""
        return images.grid(self.samples, len(self.samples))

    def _seen(self) -> Image.Image:
        return self.aligned.resize(self.reconstruction.size, Image.Resampling.LANCZOS)


Change = Callable[[Result], Result]
"""What makes another result of one: an edit."""


class Session:
    """A model and a face aligner on one device, each loaded once, when it is first used.

    Threads may share a session: one computes at a time, with all processors. In a process that was forked after the
    model was loaded it works with one thread.

    ``precision`` "bf16" computes in bfloat16, "fp32" in float32; "auto" encodes and draws in float32, and on processors
    that have instructions for bfloat16 refines, finds features, draws previews and multiplies maps in it (see
    ``Generator.mix_precision``), so results depend on the processor and on the number of threads, by some levels of
    255, without features by dozens; those of "fp32" by single ones. Raises ConfigError for another. ``generator`` is
    for a file that holds an encoder without its generator, as of ``load``.
    """

    def __init__(
        self,
        model: str | Path = "faces",
        device: Device = "auto",
        precision: Precision = "auto",
        *,
        generator: str | Path | None = None,
    ):
        self.source = model
        self._generator = generator
        self._device = device
        self._bf16 = bf16_of(precision)
        self._lock = threading.RLock()
        self._carriers: tuple[Result | None, dict[Generator, Carrier]] = None, {}
        """Of the last inversion that was edited, by what draws: it is often edited again."""
        self._liked: dict[str | Path, Tensor] = {}

    @cached_property
    def device(self) -> torch.device:
        """Where the networks run. Raises ConfigError when the device asked for is not there."""
        return choose_device(self._device)

    def check_device(self) -> None:
        """Raise ConfigError, before the first photograph, when the device asked for is not there."""
        choose_device(self._device)

    @cached_property
    def model(self) -> PSP:
        """The model, in eval mode. Raises CheckpointError."""
        device = self.device
        survive_fork()
        with torch.inference_mode(False):  # the first caller may be in it; gradients have to pass later
            model = checkpoints.load(self.source, generator=self._generator).to(device).eval()
            if model.detail is not None and device.type == "cpu":  # a tenth faster there
                model.detail.to(memory_format=torch.channels_last)
            if self._mixes:
                model.generator.mix_precision()
            return model

    @property
    def _mixes(self) -> bool:
        """Whether the processor has instructions for bfloat16, and nobody asked for a precision."""
        return self._bf16 is None and fast_in_bf16(self.device)

    @cached_property
    def _fitter(self) -> Fitter:
        """What brings rows closer to their sources."""
        return Fitter(self.model, self._bf16)

    @cached_property
    def _draft(self) -> Generator | None:
        """The generator in bfloat16, for previews, where that is faster and hardly changes pictures."""
        own = self.model.generator
        if not (self._mixes and own.fits_bf16):
            return None
        with torch.inference_mode(False):
            return copy.deepcopy(own).to(torch.bfloat16)

    @cached_property
    def _editor(self) -> Editor | None:
        """The bundled editor of the model's generator, if there is one."""
        return bundled_editor(self.model.generator)

    @cached_property
    def aligner(self) -> FaceAligner:
        """The face detector. It runs on the CPU or with CUDA; other devices are untested."""
        return FaceAligner(self.device if self.device.type == "cuda" else "cpu")

    def frame(self, image: Image.Image, align: bool = True, face: Choice | None = None) -> Frame:
        """The square of an upright picture that is used: the face, or the middle. Raises NoFaceError."""
        if not align:
            return Frame.middle(image)
        with self._lock:
            return Frame.around(preparation.locate(image, face, self.aligner)[0])

    def each_face(self, photos: Iterable[Photo | str | Path]) -> Iterator[Photo]:
        """Photographs for ``invert_many`` and the like, one for each face: NAME.1, NAME.2, ... from left to right.

        One that cannot be read, or that shows no face, is in the result as it is, and fails there.
        """
        for photo in listed(photos):
            try:
                picture = images.load(named(photo))
            except ImageError:
                yield photo
                continue
            faces = self._faces(picture)
            for number, face in enumerate(faces, 1):
                landmarks = tuple((float(x), float(y)) for x, y in face.landmarks)
                name = f"{photo.name}.{number}"
                yield replace(photo, name=name, landmarks=landmarks, turned=face.turned, whole=photo.name)
            if not faces:
                yield photo

    def prepare(self, image: Image.Image, align: bool = True) -> Image.Image:
        """``frame``, cut out at the generator's size: what an encoder of photographs sees.

        For an encoder of wide pictures it is the middle of that shape.
        """
        size = self.model.config.generator.size
        height, width = self.model.encoder.config.input_shape
        return self.frame(image, align).cut(image, size, round(size * height / width))

    def faces(self, image: Image.Image, size: int) -> list[Image.Image]:
        """All faces of an upright photograph, aligned, ``size`` pixels wide, numbered from the left as ``face`` is."""
        return [crop(image, face.quad, size) for face in self._faces(image)]

    def _faces(self, image: Image.Image) -> list[Face]:
        """All faces of an upright photograph, from left to right."""
        with self._lock:
            return from_left(self.aligner.detect_turned(image), image.size)

    def invent(self, seed: int) -> Image.Image:
        """The face of nobody, drawn from random rows."""
        w = draw(self.model.generator, 1, seeded(seed), self.model.w_avg, preparation.TRUNCATION)
        return self.picture(w.expand(self.model.generator.rows, -1))

    def rows(self, source: Path) -> Tensor:
        """The rows ``[k d]`` of a file of a source (a sketch, a label map), as the encoder gives them.

        Raises ConfigError where the model's task reads photographs, ImageError for a file that is no source.
        """
        found = self._source(source)
        with self._lock, torch.no_grad(), self._lower_precision():
            return self.model.encode(found[None].to(self.device))[0].float().cpu()

    def following(self, source: Path, ws: Tensor, refine: int | None = None) -> Tensor:
        """Rows near ``ws [k d]`` whose picture follows a file of a source more closely, as results of ``translate`` do.

        They are the same ones where the model cannot tell. Raises as ``rows`` does, and ConfigError where steps are
        asked for, and the model cannot take them.
        """
        found, request = self._source(source), Request(self.model.config.task, refine=refine)
        with self._lock, torch.no_grad():
            return self._fitter.follow(found, ws[None].to(self.device), request)[0].cpu()

    def _source(self, file: Path) -> Tensor:
        """The source ``[c s s]`` in a file."""
        config = self.model.config
        task = tasks.find_task(config.task)
        if task.photograph:
            raise ConfigError(f"{self.source} reads photographs: use invert or translate")
        return tasks.read_source(task, file, config.encoder.input_size, config.source)

    def picture(self, ws: Tensor, features: Mapping[int, Tensor] | None = None, size: int | None = None) -> Image.Image:
        """What rows ``[k d]`` and features draw, ``size`` pixels wide, by default the generator's."""
        one = given.features_of(features or {})
        own = Inversion(self._rows_of_pictures(ws), {side: part[None] for side, part in one.items()}).to(self.device)
        with self._lock, torch.no_grad():
            return images.to_picture(self._draw(own, size=size)[0])

    def invert(
        self,
        image: images.Given,
        align: bool = True,
        refine: int | None = None,
        detail: bool = True,
        *,
        budget: float | None = None,
        target: float | None = None,
        tune: bool = False,
        face: Choice | None = None,
        watch: Watch | None = None,
    ) -> Result:
        """Photograph -> rows and features -> picture.

        ``image`` is a path, the bytes of a file (bytes, BytesIO), an upright PIL image, or an upright NumPy array
        ``[h w 3]``, RGB of uint8 (also ``[h w]`` and ``[h w 4]``).

        After the encoder, rows take ``refine`` steps towards the photograph: Newton steps if the generator's curvature
        is known (the bundled one), else steps of Adam, which needs ten times as many. None: one step if curvature is
        known, else none; 0: the encoder's rows. ``detail``: also find features, what rows cannot carry, in one more
        forward pass, where the model has a detail encoder. ``budget``, seconds, and ``target``, a distance by LPIPS at
        256 pixels (.01 is hard to see), then refine the features until one of them is reached. With ``tune`` there are
        no features, and the weights of a copy of the generator are refined. ``face``: "largest", "central", or a number
        from 1, counted from the left; None takes the largest and says in ``Result.notes`` if there are others. A
        photograph that lies on its side or upside down is turned. ``watch`` gets the state after each step.
        Raises NoFaceError when ``align`` finds no face, ImageError when the file is no picture, ConfigError when the
        model reads no photographs.
        """
        return self._one(image, self._inversion(align, refine, detail, budget, target, tune, face), watch)

    def translate(
        self,
        image: images.Given,
        align: bool = True,
        *,
        factor: int | None = None,
        mask: images.Given | None = None,
        keep_known: bool = False,
        samples: int = 0,
        rows: str | None = None,
        seed: int = 0,
        alpha: float | None = None,
        refine: int | None = None,
        detail: bool = True,
        face: Choice | None = None,
        make_sketch: Style | None = None,
        make_labels: bool = False,
        like: str | Path | None = None,
        colours: str | None = None,
    ) -> Result:
        """Apply the model's task to a picture, given as to ``invert``; options as of ``pixel2style translate``.

        ``mask`` may also be a gray picture, given as ``image`` is: white is filled. It is stretched over this one, with
        a note in ``Result.notes`` if it has another shape. Raises what ``invert`` does, and ConfigError for options
        that do not go with the task.
        """
        task = self.model.config.task
        if mask is not None and not isinstance(mask, str):
            mask = images.opened(mask)
        request = Request(
            task, align, factor, mask, keep_known, samples, rows, seed, alpha, refine, detail,
            face=face, make_sketch=make_sketch, make_labels=make_labels, like=like, colours=colours,
        )  # fmt: skip
        preparation.check(request, self.model.config, self.model.source_channels, self.source)
        self._fitter.check(request)
        return self._one(image, request)

    def fidelity(self, result: Result) -> Fidelity:
        """How close the reconstruction of an inversion is to its photograph."""
        own, aligned, size = result.photograph, result.aligned, (COMPARE_SIZE, COMPARE_SIZE)
        if own is not None and aligned.width == aligned.height:
            photograph = own.reduced(aligned, size)
        else:
            photograph = aligned.resize(size, Image.Resampling.BICUBIC)
        pictures = images.to_tensor(result.reconstruction), images.to_tensor(photograph)
        with self._lock:
            return refinement.fidelity_of(*pictures, self._fitter.objective)

    def edit(
        self, result: Result, ws: Tensor, steps: Tensor | None = None, *,
        only: whole.Region | None = None, size: int | None = None,
    ) -> Result:  # fmt: skip
        """An inversion with other rows ``ws [k d]``: its features are carried along, see ``editing.carry``.

        ``steps`` [n k d] are drawn as its ``samples``. Rows that are the inversion's own give its own picture. ``only``
        limits the edit to a region (see ``region``): the generator's maps are joined there (``editing.local``), and all
        pixels outside are the inversion's. ``size`` is the side of the pictures, by default the generator's: a preview
        of 256 pixels takes half the time. The result's features remain the inversion's, not those that were drawn: to
        change rows again, edit the inversion, not its edit. Raises ConfigError for rows that are not of the model's
        generator, and what ``region`` and, with ``only``, ``check_square`` raise.
        """
        notes = result.notes
        if only is not None:
            self.check_square()
            only = whole.opened(only)
            notes += whole.doubts(only, result.photograph)
        every = self._rows_of_pictures(ws, *([] if steps is None else steps))
        own = self._inversion_of(result)
        generator = self._generator_of(result)
        pictures = []
        with self._lock, torch.no_grad():
            generator = self._quickest(generator, size)
            if self._carriers[0] is not result:
                self._carriers = result, {}
            carriers = self._carriers[1]
            carrier = carriers.setdefault(generator, Carrier(generator, own, self._editor))
            for one in every[:, None].to(own.ws):
                if only is not None:
                    drawn = self._drawn_within(result, own, carrier(one), generator, only, size)
                elif torch.equal(one, own.ws):
                    drawn = self._draw(own, generator, size)[0]
                else:
                    drawn = self._draw_with(one, carrier.maps(one), generator, size)[0]
                pictures.append(images.to_picture(drawn))
        return replace(
            result, reconstruction=pictures[0], ws=ws, samples=tuple(pictures[1:]), sample_ws=steps, notes=notes
        )

    def morph(self, one: Result, other: Result, steps: int) -> list[Image.Image]:
        """``steps`` pictures from one inversion to another: the first and the last are theirs.

        Rows lie on a line; the features of both are carried along it (``editing.carry``) and faded into each other.
        Raises ConfigError for inversions of different generators, and for tuned ones.
        """
        if one.generator is not None or other.generator is not None:
            raise ConfigError(
                "a morph is drawn by the model's generator, and these faces have tuned ones: invert again"
            )
        generator = self.model.generator
        first, last = self._inversion_of(one), self._inversion_of(other)
        pictures = [one.reconstruction]
        with self._lock, torch.no_grad():
            carriers = Carrier(generator, first, self._editor), Carrier(generator, last, self._editor)
            for share in torch.linspace(0, 1, steps).tolist()[1:-1]:
                ws = latents.interpolate(first.ws, last.ws, share)
                drawn = self._draw_with(ws, between(*carriers, ws, share), generator)
                pictures.append(images.to_picture(drawn[0]))
        return [*pictures, other.reconstruction]

    def check_square(self) -> None:
        """Raise ConfigError for a model of wide pictures: regions are parts of square ones."""
        if self.model.config.encoder.input_height:
            raise ConfigError(f"parts of pictures are those of square ones, and {self.source} reads wide ones")

    def region(self, result: Result, region: whole.Region, *others: Image.Image) -> Tensor:
        """How much of each pixel of a result's square is in a region: ``[1 s s]``, from 0 to 1.

        ``region`` is a name of ``editing.regions.NAMES``, found in the aligned photograph and in ``others``, pictures
        of the same square; or a mask of the photograph, white where the region is: a picture or a file of one. Raises
        ConfigError for another name, ImageError for a file that is no picture.
        """
        with self._lock, torch.no_grad():
            return whole.region(region, [result.aligned, *others], result.photograph, self.landmarks)

    def paint(self, result: Result, painted: Image.Image, region: whole.Region | Tensor, keep: float = 0.0) -> Result:
        """An inversion with what was painted on its face, as a face: rough paint becomes hair, lips, a beard.

        ``painted`` is the square ``result.aligned`` of any size, painted on; ``region`` says where, as for ``region``
        or as the mask ``[1 s s]`` that it gives. The painting is encoded, and where it was painted drawn from rows
        alone and a share ``keep`` of its features; elsewhere all pixels are the inversion's. Rows and features of the
        result are those of the painting, so further edits keep it. ``inference.paint`` makes paintings of patches,
        other faces and colours. Raises what ``region`` and ``check_square`` do.
        """
        self.check_square()
        mask, notes = region, result.notes
        if not isinstance(mask, Tensor):
            opened = whole.opened(mask)
            mask, notes = self.region(result, opened), notes + whole.doubts(opened, result.photograph)
        steps = None if self._fitter.curvature is None else paint.STEPS
        rough = self.invert(painted, align=False, refine=steps)
        wide = regions.softened(regions.grow(images.resize(mask[None], regions.SIDE), paint.GROWN))[0].to(self.device)
        own, other = (self._inversion_of(one) for one in (result, rough))
        features = {
            side: residual * (1 - (1 - keep) * F.interpolate(wide[None], (side, side), mode="area"))
            for side, residual in other.features.items()
        }
        generator = self._generator_of(result)
        with self._lock, torch.no_grad():
            drawn = self._joined(result, own, Inversion(other.ws, features), generator, wide)
        return replace(
            result, reconstruction=images.to_picture(drawn), ws=rough.ws,
            features={side: residual[0].cpu() for side, residual in features.items()},
            samples=(), sample_ws=None, notes=notes,
        )  # fmt: skip

    def _rows_of_pictures(self, *pictures: Tensor) -> Tensor:
        """The rows ``[k d]`` of each picture as ``[n k d]``. Raises ConfigError for others, as ``decode`` does."""
        rows, width = self.model.generator.rows, self.model.generator.width
        for ws in pictures:
            if not isinstance(ws, Tensor) or ws.shape != (rows, width):
                what = list(ws.shape) if isinstance(ws, Tensor) else type(ws).__name__
                raise ConfigError(f"rows of a picture are [{rows} {width}], as result.ws, not {what}")
        return given.rows_of(torch.stack(pictures), rows, width)

    def _generator_of(self, result: Result) -> Generator:
        """What draws a result: its own tuned generator, or the model's."""
        return self.model.generator if result.generator is None else result.generator

    def _inversion_of(self, result: Result) -> Inversion:
        """A result's rows ``[1 k d]`` and features, where the model is."""
        return Inversion(result.ws[None], {side: part[None] for side, part in result.features.items()}).to(self.device)

    def _joined(self, result: Result, own: Inversion, edited: Inversion, generator: Generator, mask: Tensor) -> Tensor:
        """The picture ``[3 r r]`` of an inversion with that of an edit where ``mask`` is 1."""
        drawn = self._draw(local.joined(generator, own, edited, mask), generator)[0]
        before = images.to_tensor(result.reconstruction)
        share = images.resize(mask[None].cpu(), before.shape[-1])[0]
        return share * drawn.clamp(-1, 1) + (1 - share) * before

    def _drawn_within(
        self,
        result: Result,
        own: Inversion,
        edited: Inversion,
        generator: Generator,
        region: whole.Region,
        size: int | None = None,
    ) -> Tensor:
        """The picture ``[3 r r]`` of an inversion with an edit in a region; joined as pictures if it has a ``size``."""
        small = generator.synthesize(edited.ws, min(COMPARE_SIZE, generator.size), residuals=edited.features).float()
        mask = self.region(result, region, images.to_picture(small[0]))
        if size is not None:
            before = images.to_tensor(result.reconstruction)[None].to(small)
            after, before, share = (images.resize(part, size)[0] for part in (small, before, mask[None].to(small)))
            return (before + share * (after - before)).float().cpu()
        return self._joined(result, own, edited, generator, mask.to(self.device))

    def pasted(self, result: Result, onto: Image.Image | None = None) -> Image.Image:
        """The whole photograph of a result, with what was drawn in the place of the face; of the photograph's size.

        ``onto`` is the photograph with other faces pasted already. Pixels outside a soft mask around the head, before
        and after, and around what was hidden are those of the photograph. Raises ConfigError where there is no
        photograph, or of wide pictures.
        """
        with self._lock, torch.no_grad():
            drawn, seen = result.reconstruction, result.aligned
            return whole.pasted(drawn, seen, result.photograph, self.landmarks, onto, result.hidden)

    def invert_many(
        self,
        photos: Iterable[Photo | str | Path],
        align: bool = True,
        batch: int = 1,
        refine: int | None = None,
        detail: bool = True,
        *,
        budget: float | None = None,
        target: float | None = None,
        tune: bool = False,
        face: Choice | None = None,
        watch: Watch | None = None,
        change: Change | None = None,
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        """Read and invert photographs in order, on a GPU ``batch`` at a time; yields the error of one that fails.

        They are given by their paths, or as ``photos.find`` finds them.
        ``change`` makes another result of each, as ``edit`` does. It gets one that is not drawn yet, with the aligned
        photograph in place of the reconstruction: who draws an edit needs no picture of the inversion. Raises
        ConfigError for a ``batch`` that is no number of photographs.
        """
        request = self._inversion(align, refine, detail, budget, target, tune, face)
        return self._many(photos, request, batch, watch, change)

    def translate_many(
        self, photos: Iterable[Photo | str | Path], request: Request, batch: int = 1
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        """Read and translate pictures as ``invert_many`` inverts them. Raises ConfigError as ``translate`` does."""
        preparation.check(request, self.model.config, self.model.source_channels, self.source)
        self._fitter.check(request)
        return self._many(photos, request, batch)

    def _inversion(
        self,
        align: bool,
        refine: int | None,
        detail: bool,
        budget: float | None,
        target: float | None,
        tune: bool,
        face: Choice | None,
    ) -> Request:
        channels = self.model.source_channels
        if channels != 3:
            raise ConfigError(
                f"{self.source} reads {channels} channel{'s' * (channels > 1)}, not photographs: choose another model"
            )
        request = Request(
            DEFAULT_TASK, align, refine=refine, detail=detail, budget=budget, target=target, tune=tune, face=face
        )
        if _goal_of(request):
            self._check_refinement(request)
        elif tune:
            raise ConfigError(
                "--tune refines the generator: say for how long with --budget, or how close with --target"
            )
        preparation.check_numbers(request, self.model.encoder.config.rows)
        if refine:
            preparation.require_refinable(self.model.config.task)
        return request

    def _check_refinement(self, request: Request) -> None:
        """Raise ConfigError where an inversion of ``request`` cannot be refined."""
        if not self._inverts:
            raise ConfigError(f"--budget and --target refine inversions, and {self.source} does not invert")
        if not request.tune:
            refinement.require_maps(self.model)
            if not request.detail:
                raise ConfigError("--budget and --target refine features, and --no-detail leaves them out: choose one")

    def _one(self, image: images.Given, request: Request, watch: Watch | None = None) -> Result:
        with self._lock:
            return self._results([self._prepared(image, request.opened())], request, watch)[0]

    def _many(
        self,
        photos: Iterable[Photo | str | Path],
        request: Request,
        batch: int,
        watch: Watch | None = None,
        change: Change | None = None,
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        if type(batch) is not int or batch < 1:
            raise ConfigError(f"a batch holds at least one photograph, not {batch}: give --batch a whole number from 1")
        # On CPUs batches are slower, and round otherwise, which steps in bfloat16 make visible.
        at_once = 1 if self.device.type == "cpu" else batch
        return self._each(_batches(listed(photos), at_once), request.opened(), watch, change)

    def _each(
        self, groups: Iterable[list[Photo]], request: Request, watch: Watch | None, change: Change | None
    ) -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        for group in groups:
            with self._lock:
                results = self._group(group, request, watch, change)
            for photo in group:
                yield photo, results[photo]

    def _group(
        self, group: list[Photo], request: Request, watch: Watch | None, change: Change | None
    ) -> dict[Photo, Result | Pixel2StyleError]:
        """The result or the error of each photograph of a batch."""
        ready: dict[Photo, Prepared] = {}
        failed: dict[Photo, Result | Pixel2StyleError] = {}
        for photo in group:
            try:
                ready[photo] = self._prepared(named(photo), request, photo)
            except Pixel2StyleError as error:
                failed[photo] = error
        made = self._results(list(ready.values()), request, watch, change) if ready else []
        return failed | dict(zip(ready, made, strict=True))

    def _prepared(self, image: images.Given, request: Request, photo: Photo | None = None) -> Prepared:
        aligner = self.aligner if preparation.needs_face(request) else None
        return preparation.prepare(image, request, self.model.config, aligner, photo)

    @torch.no_grad()  # not inference_mode: callers may want to optimise the rows
    def _results(
        self, batch: list[Prepared], request: Request, watch: Watch | None = None, change: Change | None = None
    ) -> list[Result]:
        """Encode, optimise, add detail, draw and finish one batch."""
        begun = time.monotonic()
        sources = torch.stack([prepared.source for prepared in batch]).to(self.device)
        with self._lower_precision():
            all_ws = self.model.encode(sources).float()
        if request.like is not None:
            all_ws = latents.mix(all_ws, self._rows_of(request.like).to(all_ws), *preparation.look(request))
        fitted = self._fitter.fit(batch, all_ws, request)
        inversion = self._detailed(batch, fitted.ws, request, fitted.drawn)
        tuned: list[Generator] = []
        if goal := _goal_of(request):
            photographs = [prepared.wanted.to(self.device) for prepared in batch]
            inversion, tuned = self._refined_further(photographs, inversion, goal, request.tune, begun, watch)
        pictures: Sequence[Tensor] | Tensor = []
        if change is None:
            pictures = [self._draw(inversion.part(i), own)[0] for i, own in enumerate(tuned)] or self._draw(inversion)
        results = []
        for index, prepared in enumerate(batch):
            own, generator = inversion.part(index), tuned[index] if tuned else None
            ws = own.ws[0]
            features = {side: residual[0].float().cpu() for side, residual in own.features.items()}
            final = prepared.picture if change else self._finished(prepared, pictures[index], own)
            result = Result(
                prepared.picture, final, ws.float().cpu(),
                features=features, notes=prepared.notes, photograph=prepared.photograph, hidden=prepared.hidden,
            )  # fmt: skip
            if self._inverts and fitted.distances is not None:
                result = replace(result, distance=float(fitted.distances[index]))
            if generator is not None:
                result = replace(result, generator=generator)
            if request.samples:
                many = preparation.resampled(ws, self.model.generator, request)
                many = self._fitter.follow(prepared.source, many, request)
                # one at a time, so that memory does not grow with their number
                variants = (self._sampled(prepared, one[None], own, request) for one in many)
                samples = [self._finished(prepared, self._draw(one, generator)[0], one) for one in variants]
                result = replace(result, samples=tuple(samples), sample_ws=many.float().cpu())
            results.append(change(result) if change else result)
        return results

    def _rows_of(self, photograph: str | Path) -> Tensor:
        """The rows ``[1 k d]`` of the face in a photograph, by the bundled model; kept for the next pictures.

        Raises ConfigError where that model has another generator.
        """
        if photograph not in self._liked:
            with torch.inference_mode(False):
                session = self._photographs
            if session.model.config.generator != self.model.config.generator:
                raise ConfigError(f"--like takes rows from {session.source}, and {self.source} has another generator")
            self._liked = {photograph: session.invert(photograph, detail=False).ws[None]}
        return self._liked[photograph]

    @cached_property
    def _photographs(self) -> "Session":
        return Session("faces", self._device, "auto" if self._bf16 is None else "bf16" if self._bf16 else "fp32")

    def _detailed(
        self, batch: Sequence[Prepared], ws: Tensor, request: Request, drawn: Tensor | None = None
    ) -> Inversion:
        """Rows ``[b k d]``, which draw ``drawn``, with the features of what the sources show, where there are any."""
        shown = None if self._task is None or not request.detail or request.tune else self._task.shown
        if shown is None:
            return Inversion(ws)

        def images(drawn: Tensor) -> Tensor:
            pairs = zip(batch, torch.split(drawn, 1), strict=True)
            return torch.cat([shown(one.source[None].to(picture), picture, one.degradation) for one, picture in pairs])

        fast = self._mixes or bool(self._bf16)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=fast):
            return self.model.with_detail(images, ws, drawn)

    def _finished(self, prepared: Prepared, drawn: Tensor, own: Inversion) -> Image.Image:
        """The result of the picture [3 h r] of one inversion."""
        if prepared.kept is None or not own.features:
            return prepared.finish(drawn)
        rows = self.model.decode(own.ws, min(COMPARE_SIZE, self.model.generator.size))[0].float().cpu()
        return prepared.finish(drawn, rows.clamp(-1, 1))

    def _sampled(self, prepared: Prepared, ws: Tensor, own: Inversion, request: Request) -> Inversion:
        """A sample's rows ``[1 k d]`` with the result's ``own`` features, or with new ones if the source is degraded.

        What a whole photograph shows would undo the sample; what a degraded one shows is true for every sample.
        """
        if prepared.degradation is None:
            return Inversion(ws, own.features)
        return self._detailed([prepared], ws, request)

    def _refined_further(
        self, photographs: Sequence[Tensor], inversion: Inversion, goal: Goal, tune: bool, begun: float,
        watch: Watch | None,
    ) -> tuple[Inversion, list[Generator]]:  # fmt: skip
        """The inversion of photographs ``[3 h r]``, features refined until ``goal``, or a tuned generator for each.

        Features of photographs of one size are refined together on a GPU, else one by one.
        """
        alike = len({one.shape for one in photographs}) == 1
        together = len(photographs) if alike and self.device.type == "cuda" and not tune else 1
        method: refinement.Descent = partial(weights.tune if tune else maps.descend, bf16=self._bf16)
        found = []
        for first in range(0, len(photographs), together):
            some = range(first, min(first + together, len(photographs)))
            progress = refinement.refine(
                self.model, torch.stack([photographs[i] for i in some]), inversion.parts(some), goal,
                self._fitter.objective, method=method, begun=begun, watch=watch,
            )  # fmt: skip
            found.append(progress)
            begun = time.monotonic()
        generators = [progress.generator for progress in found if progress.generator is not None]
        return Inversion.joined([progress.inversion for progress in found]), generators

    @property
    def _inverts(self) -> bool:
        """Whether the model draws what it sees, so that features of what it sees make sense."""
        return self._task is not None and self._task.inverts

    @cached_property
    def landmarks(self) -> FaceAttributes:
        """Finds the landmarks that regions of a face follow. It is small: the CPU is enough."""
        with torch.inference_mode(False):
            return attributes.pretrained()

    @property
    def _task(self) -> Task | None:
        """What the model was trained for, if that task is installed here."""
        return tasks.task_or_none(self.model.config.task)

    def _lower_precision(self) -> torch.autocast:
        """What encodes and draws in bfloat16 where that was asked for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16 is True)

    def _quickest(self, generator: Generator, size: int | None) -> Generator:
        """What draws pictures of ``size``: for previews of the model's generator its copy in bfloat16."""
        small = size is not None and size <= COMPARE_SIZE
        return self._draft or generator if small and generator is self.model.generator else generator

    def _draw(self, inversion: Inversion, generator: Generator | None = None, size: int | None = None) -> Tensor:
        """The picture of one inversion ``[1 3 h r]``, of the model's generator or of a tuned copy."""
        drawing = self._quickest(self.model.generator if generator is None else generator, size)
        with self._lower_precision():
            side = None if size is None else min(size, drawing.size)
            drawn = drawing.synthesize(inversion.ws, side, residuals=inversion.features)
        return self._finite(drawn)

    def _draw_with(self, ws: Tensor, maps: Residuals, generator: Generator, size: int | None = None) -> Tensor:
        """The picture of rows ``[1 k d]`` with ``maps`` in place of the generator's own: ``[1 3 h r]``."""
        with self._lower_precision():
            drawn = generator.draw(ws, maps, None if size is None else min(size, generator.size))
        return self._finite(drawn)

    def _finite(self, drawn: Tensor) -> Tensor:
        """Drawn pictures, framed, in float32, on the CPU. Raises ConfigError where numbers overflowed."""
        framed = self.model.framed(drawn).float().cpu()
        if not math.isfinite(float(framed.sum())):
            raise ConfigError("these rows are too far from all pictures that the generator draws: move them less")
        return framed


def _goal_of(request: Request) -> Goal | None:
    """When the refinement that is asked for ends, None where none is. Raises ConfigError."""
    if request.budget is None and request.target is None:
        return None
    seconds = math.inf if request.budget is None else request.budget
    return Goal(seconds, 0.0 if request.target is None else request.target)


def named(photo: Photo) -> Path:
    """The file of a photograph. Raises ImageError if its name cannot be the name of a result."""
    path = str(photo.path)
    if path != path.encode(errors="replace").decode() or photo.name == "__metadata__":  # safetensors' own
        raise ImageError(f"{path} has a name that rows cannot be stored under: rename it")
    return photo.path


def _batches(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    remaining = iter(photos)
    while group := list(itertools.islice(remaining, size)):
        yield group
