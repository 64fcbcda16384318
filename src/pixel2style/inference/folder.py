"""Runs over many pictures: what the commands do, as functions that write files.

Only rows are kept in memory until the end, so a run may be of any length.

Axes: ``n`` samples, ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .. import checkpoints, images
from ..errors import ConfigError, OutputError, Pixel2StyleError
from ..files import claim
from ..photos import Photo
from ..tasks.request import Request
from .refine import Fidelity, Watch
from .session import Result, Session, named

LATENTS = "latents.safetensors"
"""The file beside the pictures with every photograph's rows under its name."""
PICTURES = {"reconstruction": ".png", "pair": ".pair.png"}
"""What every run writes: attributes of a result, and the ends of their files' names."""
SIZES = (16, 4096)
"""Smallest and largest side of an aligned photograph, pixels."""


@dataclass(frozen=True)
class Outcome:
    """The result of one photograph: the files that were written, by what they show, or the error.

    ``fidelity`` says how close an inversion is to its photograph, ``far`` that this is probably not what the generator
    draws.
    """

    photo: Photo
    files: Mapping[str, Path] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    far: bool = False
    error: Pixel2StyleError | None = None


Outcomes = Generator[Outcome, None, None]


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
    watch: Watch | None = None,
    overwrite: bool = False,
) -> Outcomes:
    """Invert photographs into a folder, one outcome each; options as of ``Session.invert``.

    A photograph NAME gives ``NAME.png`` (the reconstruction), ``NAME.pair.png`` and, when aligned,
    ``NAME.aligned.png``. The rows of all are added to ``latents.safetensors`` at the end, also when the caller stops
    early; with ``save_features`` also the features, fp16, as ``NAME.featuresSIDE``. With ``tune`` the generator of each
    is written as ``NAME.generator.safetensors``, for the bundled one as a small difference. Raises OutputError before
    any work when these cannot be written, see ``files.claim``.
    """
    kinds = PICTURES | ({"aligned": ".aligned.png"} if align else {})
    kinds |= {"generator": ".generator.safetensors"} if tune else {}
    files, earlier = _claimed(out, photos, kinds, [], overwrite)
    results = session.invert_many(
        photos, align, _checked(batch), refine, detail, budget=budget, target=target, tune=tune, watch=watch
    )
    yield from _written(out, files, earlier, results, save_features, session.fidelity)


def translate_into(
    out: Path, photos: Sequence[Photo], session: Session, request: Request, *, batch: int = 1, overwrite: bool = False
) -> Outcomes:
    """Translate pictures as ``request`` asks, into a folder, one outcome each.

    A picture NAME gives ``NAME.png``, ``NAME.pair.png`` (what the encoder saw beside it) and, with samples,
    ``NAME.samples.png`` (the pair, then the samples); rows as ``invert_into``, those of samples [n k d] as
    ``NAME.samples``. Raises as ``invert_into`` does.
    """
    kinds = PICTURES | ({"sheet": ".samples.png"} if request.samples else {})
    masks = [request.mask_file] if request.mask_file else []
    files, earlier = _claimed(out, photos, kinds, masks, overwrite)
    yield from _written(out, files, earlier, session.translate_many(photos, request, _checked(batch)))


Files = Mapping[Photo, Mapping[str, Path]]


def _claimed(
    out: Path, photos: Sequence[Photo], kinds: Mapping[str, str], masks: Sequence[Path], overwrite: bool
) -> tuple[Files, dict[str, Tensor]]:
    """The files of each photograph, by ``kinds`` (see ``PICTURES``), and the rows of earlier runs in ``out``.

    Raises OutputError when these files cannot be written, or would replace a photograph or a mask.
    """
    files = {photo: {kind: out / (photo.name + end) for kind, end in kinds.items()} for photo in photos}
    targets = [file for own in files.values() for file in own.values()]
    claim(out, targets, [*(photo.path for photo in photos), *masks], overwrite)
    return files, rows_in(out / LATENTS)


def _written(
    out: Path,
    files: Files,
    earlier: Mapping[str, Tensor],
    results: Iterable[tuple[Photo, Result | Pixel2StyleError]],
    save_features: bool = False,
    fidelity: Callable[[Result], Fidelity] | None = None,
) -> Outcomes:
    """Write the pictures of each result, and at the end all rows (and features, fp16)."""
    latents = dict[str, Tensor]()
    try:
        for photo, result in results:
            if isinstance(result, Pixel2StyleError):
                yield Outcome(photo, error=result)
                continue
            try:
                _save(result, files[photo])
            except Pixel2StyleError as error:
                yield Outcome(photo, error=error)
                continue
            latents[photo.name] = result.ws
            if result.sample_ws is not None:
                latents[f"{photo.name}.samples"] = result.sample_ws
            if save_features:
                latents |= {f"{photo.name}.features{side}": part.half() for side, part in result.features.items()}
            yield Outcome(photo, files[photo], fidelity=fidelity(result) if fidelity else None, far=result.far)
    finally:
        if latents:
            checkpoints.save_tensors({**earlier, **latents}, out / LATENTS)


def _save(result: Result, files: Mapping[str, Path]) -> None:
    """Write the pictures of one result in parallel: compressing one uses one core. Raises OutputError."""
    with ThreadPoolExecutor() as threads:
        saved = [threads.submit(_save_one, result, kind, file) for kind, file in files.items()]
    for one in saved:
        one.result()


def _save_one(result: Result, kind: str, file: Path) -> None:
    if kind == "generator" and result.generator is not None:
        base = checkpoints.bundled_like(result.generator)
        checkpoints.save(result.generator, file, dtype=torch.float16, base=base)
    else:
        images.save(getattr(result, kind), file)


def rows_in(file: Path) -> dict[str, Tensor]:
    """The rows in a ``latents.safetensors``, by photograph; none if there is no such file.

    Raises OutputError for a file of something else, so that it is not replaced by accident.
    """
    try:
        return load_file(file) if file.exists() else {}
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{file} holds no rows: move it away, or choose another --out") from error


def align_into(
    out: Path, photos: Sequence[Photo], session: Session, *, size: int = 1024, overwrite: bool = False
) -> Generator[Outcome, None, None]:
    """Cut the largest face out of each photograph into ``NAME.png``, ``size`` pixels wide; one outcome each.

    Raises OutputError before any work, see ``files.claim``.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise ConfigError(f"--size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size}")
    files = {photo: out / f"{photo.name}.png" for photo in photos}
    claim(out, list(files.values()), [photo.path for photo in photos], overwrite)
    for photo, file in files.items():
        try:
            images.save(session.aligner.align(images.load(named(photo)), size), file)
        except Pixel2StyleError as error:
            yield Outcome(photo, error=error)
        else:
            yield Outcome(photo, {"aligned": file})


def convert(source: str | Path, out: Path, *, to: checkpoints.Layout = "ours", overwrite: bool = False) -> str:
    """Rewrite a model file as one of ours, or in another layout; returns a few words on what it is.

    Raises OutputError before anything is read when ``out`` cannot be written, CheckpointError for a file that is no
    model, ConfigError for a model that the layout cannot hold.
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
    claim(out.parent, [out], [], overwrite)
    return checkpoints.convert(file, out, to)


def _checked(batch: int) -> int:
    if batch < 1:
        raise ConfigError(f"a batch holds at least one photograph, not {batch}: pass --batch 1 or more")
    return batch
