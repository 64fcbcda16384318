"""Runs over many pictures: what the commands do, as functions that write files.

Nothing is kept in memory until the end but names, so a run may be of any length.

Axes: ``n`` samples, ``k`` rows, ``d`` width of a row.
"""

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image

from .. import checkpoints, images
from ..config import DEFAULT_TASK
from ..editing.latents import parse_rows
from ..errors import ConfigError, NoRoomError, OutputError, Pixel2StyleError
from ..faces.align import Choice
from ..files import claim, make_folder, resolved
from ..generators.sampling import seeded
from ..photos import Photo
from ..tasks.request import Frame, Request
from . import edit, whole
from . import prepare as preparation
from .latents_file import LatentsFile
from .paint import Painting, painted
from .refine import Fidelity, Watch
from .session import Result, Session, named

SAMPLE = "sample "
"""The kind of a file of one variant, before its number."""
FEATURES = ".features.safetensors"
"""The end of the name of a file of features."""
PICTURES = {"reconstruction": ".png", "pair": ".pair.png"}
"""What every run writes: attributes of a result, and the ends of their files' names."""
GIF = "gif"
"""The kind of an animation."""
FRAMES = 13
"""Frames of an animation, one way, where no strip of another length was asked for."""
GIF_SIDE = 512
"""Width of animations, in pixels; files of larger ones have tens of megabytes."""
PASTED = ".pasted"
"""The end of the name of a whole photograph, before its suffix."""
LOSSLESS = frozenset(suffix for suffix, kind in images.SUFFIXES.items() if kind in ("PNG", "BMP", "TIFF"))
"""Suffixes of photographs that are written in their own format, so that pixels stay as they are."""
LONGEST_NAME = 238
"""Bytes in the name of a file, with room for that of its temporary one."""
SIZES = (16, 4096)
"""Smallest and largest side of an aligned photograph, pixels."""


@dataclass(frozen=True)
class Outcome:
    """The result of one photograph: the files that were written, by what they show, or the error.

    ``fidelity`` says how close an inversion is to its photograph, ``far`` that this is probably not what the generator
    draws, ``skipped`` that it was there already. ``notes`` are those of ``Result``.
    """

    photo: Photo
    files: Mapping[str, Path] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    far: bool = False
    skipped: bool = False
    notes: tuple[str, ...] = ()
    error: Pixel2StyleError | None = None


Outcomes = Generator[Outcome, None, None]
Draw = Callable[[Image.Image], Image.Image]
"""From an aligned face to a picture of it."""


def invert_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    *,
    align: bool = True,
    batch: int = 1,
    refine: int | None = None,
    detail: bool = True,
    save_features: bool = False,
    budget: float | None = None,
    target: float | None = None,
    tune: bool = False,
    face: Choice | None = None,
    paste: bool = False,
    watch: Watch | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Outcomes:
    """Invert photographs into a folder, one outcome each; options as of ``Session.invert``.

    A photograph NAME gives ``NAME.png`` (the reconstruction), ``NAME.pair.png`` and, when aligned,
    ``NAME.aligned.png``. Its rows are in ``latents.safetensors`` (see ``latents_file``) before its pictures are
    written; with ``save_features`` the features are in ``NAME.features.safetensors``, fp16, by the sides of their maps.
    With ``tune`` the generator of each is written as ``NAME.generator.safetensors``, for the bundled one as a small
    difference. With ``paste``, ``NAME.pasted.png`` is the whole photograph with the results of all its faces, of its
    size, in its own format if that keeps pixels (``LOSSLESS``). ``skip_existing`` leaves out photographs that have all
    of this already. Raises OutputError before any work when results cannot be written, see ``files.claim``, and
    NoRoomError when the disk is full.
    """
    if save_features and not detail:
        raise ConfigError("--save-features stores features, and --no-detail leaves them out: choose one")
    kinds = PICTURES | ({"aligned": ".aligned.png"} if align else {})
    kinds |= {"generator": ".generator.safetensors"} if tune else {}
    kinds |= {"features": FEATURES} if save_features and not tune else {}
    made = "invert" if budget is None and target is None else "refine"
    run = _Run(made, out, photos, kinds, [], overwrite, skip_existing, session.pasted if paste else None)
    yield from run.written(
        session.invert_many(
            run.remaining(), align, batch, refine, detail,
            budget=budget, target=target, tune=tune, face=face, watch=watch,
        ),
        session.fidelity,
    )  # fmt: skip


def translate_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    request: Request,
    *,
    batch: int = 1,
    seeds: Sequence[int] = (),
    single_samples: bool = False,
    paste: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Outcomes:
    """Translate pictures as ``request`` asks, into a folder, one outcome each.

    A picture NAME gives ``NAME.png``, ``NAME.pair.png`` (what the encoder saw beside it) and, with samples,
    ``NAME.samples.png`` (the pair, then the samples), with ``single_samples`` also ``NAME.sample1.png`` and so on; rows
    as ``invert_into``, those of samples [n k d] as ``NAME.samples``. With ``seeds``, which replace that of ``request``,
    results of each are called ``NAME.seed1`` and so on. ``paste`` as for ``invert_into``. Raises as it does, and
    ConfigError where ``paste`` is asked of a task whose pictures are no photographs.
    """
    if paste:
        preparation.require_photographs(request)
    if single_samples and not request.samples:
        raise ConfigError("--single-samples writes each of the variants that --samples draws: add --samples 4")
    kinds = PICTURES | ({"sheet": ".samples.png"} if request.samples else {})
    if single_samples:
        kinds |= {f"{SAMPLE}{number}": f".sample{number}.png" for number in range(1, request.samples + 1)}
    others = [Path(one) for one in (request.mask_file, request.like, request.colours) if one is not None]
    seed_of = {
        replace(photo, name=f"{photo.name}.seed{seed}", whole=f"{photo.whole_name}.seed{seed}"): seed
        for seed in seeds
        for photo in photos
    }
    run = _Run(
        f"translate {request.task}", out, list(seed_of) or photos, kinds, others, overwrite, skip_existing,
        session.pasted if paste else None,
    )  # fmt: skip
    groups = itertools.groupby(run.remaining(), lambda photo: seed_of.get(photo, request.seed))
    results = (session.translate_many(group, replace(request, seed=seed), batch) for seed, group in groups)
    yield from run.written(itertools.chain.from_iterable(results))


def edit_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    moves: Sequence[str],
    *,
    rows: str | None = None,
    only: str | None = None,
    steps: int = 0,
    gif: bool = False,
    align: bool = True,
    face: Choice | None = None,
    paste: bool = False,
    budget: float | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Outcomes:
    """Invert photographs, move their rows as ``moves`` say (see ``edit.parsed``), and draw them; one outcome each.

    A photograph NAME gives ``NAME.png`` (the edited picture), ``NAME.pair.png`` and, with ``steps``,
    ``NAME.strip.png``: so many pictures from the opposite of the moves to the moves; with ``gif`` the same (or
    ``FRAMES``) as an animation, ``NAME.gif``. The rows are the edited ones.
    ``paste`` as for ``invert_into``. Raises as ``invert_into`` does, ConfigError and CheckpointError for moves that are
    none.
    """
    kinds, steps = _walk(steps, gif)
    others = [] if only is None else [Path(only)]
    run = _Run("edit", out, photos, kinds, others, overwrite, skip_existing, session.pasted if paste else None)
    generator = session.model.generator
    parsed = [edit.parsed(move, generator) for move in moves]
    if rows is not None:
        parse_rows(rows, generator.rows)
    region = None if only is None else whole.opened(only)
    if region is not None:
        session.check_square()

    def edited(result: Result) -> Result:
        strip = edit.strip(result.ws, parsed, steps, rows) if steps else None
        return session.edit(result, edit.edited(result.ws, parsed, rows), strip, only=region)

    if only is None:
        yield from run.written(session.invert_many(run.remaining(), align, budget=budget, face=face, change=edited))
        return
    results = session.invert_many(run.remaining(), align, budget=budget, face=face)  # drawn: pixels of it are kept
    yield from run.written(
        (photo, result if isinstance(result, Pixel2StyleError) else edited(result)) for photo, result in results
    )


def _walk(steps: int, gif: bool) -> tuple[dict[str, str], int]:
    """The kinds of files of a run with a strip of ``steps`` pictures or an animation, and how many are drawn.

    Raises ConfigError for a number that makes no strip.
    """
    if steps:
        edit.check_steps(steps)
    kinds = PICTURES | ({"strip": ".strip.png"} if steps else {}) | ({GIF: ".gif"} if gif else {})
    return kinds, steps or (FRAMES if gif else 0)


def mix_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    others: Sequence[str],
    *,
    rows: str = "fine",
    alpha: float = 1.0,
    steps: int = 0,
    gif: bool = False,
    variants: int = 0,
    seed: int = 0,
    align: bool = True,
    face: Choice | None = None,
    paste: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Outcomes:
    """Invert photographs, mix the rows of ``others`` (see ``edit.parsed_share``) in, and draw them; one outcome each.

    A photograph NAME gives ``NAME.png`` (the mixed picture) and ``NAME.pair.png``; the rows are the mixed ones. With
    ``steps`` ``NAME.strip.png`` is so many pictures from the photograph to the mixed one, with ``gif`` ``NAME.gif`` the
    same (or ``FRAMES``) as an animation, with ``variants`` ``NAME.variants.png`` so many with new latents in ``rows``
    (and rows ``NAME.samples``). Without ``others`` nothing is mixed in. Of the others the largest face is taken, of the
    photographs ``face``; ``paste`` as for ``invert_into``. Raises as ``invert_into`` does, and what inverting the
    others raises.
    """
    shares = [edit.parsed_share(word) for word in others]
    preparation.check_alpha(alpha)
    seeded(seed)
    sources = [share.photograph for share in shares]
    if variants and (steps or gif):
        raise ConfigError("--variants are drawn of one mixture, --strip and --gif lead to it: choose one of them")
    if variants:
        edit.check_variants(variants)
    kinds, steps = _walk(steps, gif)
    kinds |= {"strip": ".variants.png"} if variants else {}
    run = _Run("mix", out, photos, kinds, sources, overwrite, skip_existing, session.pasted if paste else None)
    generator = session.model.generator
    parse_rows(rows, generator.rows)
    others_ws = [session.invert(share.photograph, align).ws for share in shares]
    weights = [share.weight for share in shares]

    def made(result: Result) -> Result:
        ws = edit.mixed(result.ws, torch.stack(others_ws), weights, rows, alpha) if shares else result.ws
        drawn = edit.walk(result.ws, ws, steps) if steps else None
        if variants:
            drawn = edit.varied(ws, generator, variants, rows, seed, alpha)
        return session.edit(result, ws, drawn)

    yield from run.written(session.invert_many(run.remaining(), align, face=face, change=made))


def paint_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    painting: Painting,
    *,
    align: bool = True,
    face: Choice | None = None,
    paste: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Outcomes:
    """Invert photographs, paint on them (see ``paint.Painting``), and draw faces of that; one outcome each.

    A photograph NAME gives ``NAME.png`` (the painted face) and ``NAME.pair.png``; the rows are those of the painting.
    ``paste`` as for ``invert_into``. Raises as that does, and what ``paint.painted`` raises.
    """
    given = [one for one in (painting.patch, painting.mask, painting.source) if isinstance(one, str | Path)]
    painting = painting.opened()
    others = [Path(one) for one in given]
    run = _Run("paint", out, photos, PICTURES, others, overwrite, skip_existing, session.pasted if paste else None)
    session.check_square()
    results = session.invert_many(run.remaining(), align, face=face)

    def made(result: Result | Pixel2StyleError) -> Result | Pixel2StyleError:
        try:
            return result if isinstance(result, Pixel2StyleError) else painted(session, result, painting)
        except Pixel2StyleError as error:
            return error

    yield from run.written((photo, made(result)) for photo, result in results)


class _Run:
    """The files of a run: of each photograph, by ``kinds`` (see ``PICTURES``), and the rows of all.

    ``made`` says what makes them: with ``skip_existing``, results of another command are no earlier part of this run.
    ``paste`` puts a result into its photograph, or into one that has other results already; that of the last face of a
    photograph is written. Raises OutputError when these files cannot be written, or would replace a photograph or one
    of ``others``, which the run reads, too.
    """

    def __init__(
        self,
        made: str,
        out: Path,
        photos: Sequence[Photo],
        kinds: Mapping[str, str],
        others: Sequence[Path],
        overwrite: bool,
        skip_existing: bool,
        paste: Callable[[Result, Image.Image | None], Image.Image] | None = None,
    ):
        self.files = {photo: {kind: out / (photo.name + end) for kind, end in kinds.items()} for photo in photos}
        self.paste, self.part = paste, _Part("", None)
        if paste:
            for photo in {photo.whole_name: photo for photo in photos}.values():
                suffix = photo.path.suffix.lower()
                self.files[photo]["pasted"] = out / (
                    photo.whole_name + PASTED + (suffix if suffix in LOSSLESS else ".png")
                )
        self.skip_existing = skip_existing
        self.failed = _unusable_names(self.files)
        for photo in self.failed:
            del self.files[photo]
        make_folder(out)
        self.rows = LatentsFile(out, made)
        # Files of a photograph with rows are ours, also where a process was killed between the two.
        claimed = [own for photo, own in self.files.items() if not (skip_existing and self.rows.has(photo.name))]
        targets = [file for own in claimed for file in own.values()]
        sources = [*(photo.path for photo in photos), *others]
        claim(out, targets, sources, overwrite, "--skip-existing to go on, " if not skip_existing else "")

    def remaining(self) -> Iterator[Photo]:
        """The photographs that are to be processed; each is looked at when its turn comes."""
        again = set[str]()  # photographs of which a face is missing: all are pasted together
        if self.skip_existing and self.paste:
            again = {photo.whole_name for photo in self.files if not self._done(photo)}
        for photo in self.files:
            if photo.whole_name in again or not (self.skip_existing and self._done(photo)):
                yield photo

    def _done(self, photo: Photo) -> bool:
        return self.rows.has(photo.name) and all(file.exists() for file in self.files[photo].values())

    def written(
        self,
        results: Iterable[tuple[Photo, Result | Pixel2StyleError]],
        fidelity: Callable[[Result], Fidelity] | None = None,
    ) -> Outcomes:
        """Write the rows and then the files of each result. Raises NoRoomError at the first one without room."""
        left = set(self.files)
        yield from (Outcome(photo, error=error) for photo, error in self.failed.items())
        try:
            for photo, result in results:
                left.discard(photo)
                yield self._outcome(photo, result, fidelity)
        finally:
            self.rows.join()
        for photo in self.files:
            if photo in left:
                yield Outcome(photo, self.files[photo], skipped=True)

    def _outcome(
        self, photo: Photo, result: Result | Pixel2StyleError, fidelity: Callable[[Result], Fidelity] | None
    ) -> Outcome:
        if isinstance(result, Pixel2StyleError):
            self.part = _Part(photo.whole_name, None, complete=False)
            return Outcome(photo, error=result)
        try:
            result = self._pasted(photo, result)
            samples = {} if result.sample_ws is None else {f"{photo.name}.samples": result.sample_ws}
            self.rows.add(photo.name, {photo.name: result.ws} | samples)
            files = {kind: file for kind, file in self.files[photo].items() if kind != "pasted" or result.pasted}
            _save(result, files)
        except NoRoomError:
            raise
        except Pixel2StyleError as error:
            self.part = _Part(photo.whole_name, None, complete=False)
            return Outcome(photo, error=error)
        close = fidelity(result) if fidelity else None
        return Outcome(photo, files, fidelity=close, far=result.far, notes=result.notes)

    def _pasted(self, photo: Photo, result: Result) -> Result:
        """The result with its whole photograph, if it is that of the last face and none before has failed."""
        if self.paste is None:
            return result
        before = self.part if self.part.name == photo.whole_name else _Part(photo.whole_name, None)
        if not before.complete:
            return result
        self.part = replace(before, pasted=self.paste(result, before.pasted))
        if "pasted" not in self.files[photo]:
            return result
        notes = ("has more than 8 bits a colour, and the pasted picture 8",) if images.is_deep(photo.path) else ()
        return replace(result, pasted=self.part.pasted, notes=result.notes + notes)


@dataclass(frozen=True)
class _Part:
    """The photograph ``name`` with the results of its faces so far; not ``complete`` if one has failed."""

    name: str
    pasted: Image.Image | None
    complete: bool = True


def _unusable_names(files: Mapping[Photo, Mapping[str, Path]]) -> dict[Photo, Pixel2StyleError]:
    """Photographs whose results cannot have their names: one of another photograph, or one that is too long."""
    failed: dict[Photo, Pixel2StyleError] = {}
    taken: dict[Path, Photo] = {}
    for photo, own in files.items():
        for file in own.values():
            if file in taken:
                failed[photo] = OutputError(
                    f"{photo.path}: its result {file} would replace that of {taken[file].path}: rename one of the two"
                )
            elif len(os.fsencode(file.name)) > LONGEST_NAME:
                failed[photo] = OutputError(f"{photo.path}: its name is too long for the names of results: rename it")
        if photo not in failed:
            taken |= dict.fromkeys(own.values(), photo)
    return failed


def _save(result: Result, files: Mapping[str, Path]) -> None:
    """Write the files of one result in parallel: compressing a picture uses one core. Raises OutputError."""
    with ThreadPoolExecutor() as threads:
        saved = [threads.submit(_save_one, result, kind, file) for kind, file in files.items()]
    for one in saved:
        one.result()


def _save_one(result: Result, kind: str, file: Path) -> None:
    if kind == "generator" and result.generator is not None:
        base = checkpoints.bundled_like(result.generator)
        checkpoints.save(result.generator, file, dtype=torch.float16, base=base)
    elif kind == "features":
        checkpoints.save_tensors({str(side): part.half() for side, part in result.features.items()}, file)
    elif kind == GIF:
        width, height = result.reconstruction.size
        size = min(GIF_SIDE, width), round(height * min(1, GIF_SIDE / width))
        frames = [one.resize(size, Image.Resampling.LANCZOS) for one in result.samples]
        images.save_animation(frames, file)
    elif kind.startswith(SAMPLE):
        images.save(result.samples[int(kind.removeprefix(SAMPLE)) - 1], file)
    else:
        images.save(getattr(result, kind), file)


def align_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    *,
    size: int = 1024,
    face: Choice | None = None,
    overwrite: bool = False,
) -> Outcomes:
    """Cut a face out of each photograph into ``NAME.png``, ``size`` pixels wide; one outcome each.

    Raises OutputError before any work, see ``files.claim``.
    """
    yield from cut_into(out, photos, session, {"aligned": (".png", None)}, size=size, face=face, overwrite=overwrite)


def cut_into(
    out: Path,
    photos: Sequence[Photo],
    session: Session,
    kinds: Mapping[str, tuple[str, Draw | None]],
    *,
    size: int,
    align: bool = True,
    face: Choice | None = None,
    overwrite: bool = False,
) -> Outcomes:
    """Write what ``kinds`` make of the face in each photograph, ``size`` pixels wide; one outcome each.

    A kind is the end of a file's name and what draws the face; None writes it as it is. Raises ConfigError, and
    OutputError before any work, see ``files.claim``; NoRoomError when the disk is full.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"--size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size}")
    session.check_device()
    if face is not None:
        preparation.check_face(Request(DEFAULT_TASK, align, face=face))
    files = {photo: {kind: out / f"{photo.name}{end}" for kind, (end, _) in kinds.items()} for photo in photos}
    failed = _unusable_names(files)
    for photo in failed:
        del files[photo]
    claim(out, [file for own in files.values() for file in own.values()], [photo.path for photo in photos], overwrite)
    yield from (Outcome(photo, error=error) for photo, error in failed.items())
    for photo, own in files.items():
        try:
            picture = images.load(named(photo))
            frame, notes = Frame.middle(picture), tuple[str, ...]()
            if align:
                landmarks, notes = preparation.locate(picture, face, session.aligner, photo)
                frame = Frame.around(landmarks)
            cut = frame.cut(picture, size)
            for kind, (_, draw) in kinds.items():
                images.save(draw(cut) if draw else cut, own[kind])
        except NoRoomError:
            raise
        except Pixel2StyleError as error:
            yield Outcome(photo, error=error)
        else:
            yield Outcome(photo, own, notes=notes)


def convert(
    source: str | Path,
    out: Path,
    *,
    to: checkpoints.Layout = "ours",
    generator: str | Path | None = None,
    overwrite: bool = False,
) -> str:
    """Rewrite a model file as one of ours, or in another layout; returns a few words on what it is.

    ``generator`` completes an encoder without its own. Raises OutputError before anything is read when ``out`` cannot
    be written, CheckpointError for a file that is no model, ConfigError for a model that the layout cannot hold.
    """
    if to == "ours" and out.suffix != checkpoints.SUFFIX:
        raise OutputError(f"{out} would not be found as a model: call it NAME{checkpoints.SUFFIX}")
    if to != "ours" and out.suffix not in (".pt", ".pth"):
        raise OutputError(f"{out} would be a PyTorch file, as {to} has them: call it NAME.pt")
    file = checkpoints.find(source)
    if out.exists() and resolved(out) == resolved(file):
        raise OutputError(f"{out} would replace the file that is converted: give another name")
    if out.is_dir() or (out.exists() and not overwrite):
        raise OutputError(f"{out} exists already: give another name{'' if out.is_dir() else ', or add --overwrite'}")
    claim(out.parent, [out], [], overwrite)
    return checkpoints.convert(file, out, to, generator=generator)
