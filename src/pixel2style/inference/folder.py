"""What the command line and the studio do, as functions: pictures in, files out.

Files are written here, so that every caller writes the same ones. This module does not know what happens to a picture
(``session``); and it keeps nothing of one but its rows, so a folder may be of any length.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .. import checkpoints, images
from ..errors import ConfigError, OutputError, Pixel2StyleError
from ..files import claim
from ..photos import Photo
from ..tasks.request import Request
from .session import Result, Session, named

LATENTS = "latents.safetensors"
"""The file beside the pictures that holds every photograph's rows under its name."""
PICTURES = {"reconstruction": ".png", "pair": ".pair.png"}
"""What every run writes: attributes of a result, and how their files' names end."""
SIZES = (16, 4096)
"""Sides of an aligned photograph that make sense, pixels."""


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph: the files written, by what they show, or why there are none."""

    photo: Photo
    files: Mapping[str, Path] = field(default_factory=dict)
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
    overwrite: bool = False,
) -> Outcomes:
    """Invert photographs into a folder, one outcome each.

    A photograph NAME gives ``NAME.png`` (the reconstruction), ``NAME.pair.png`` and, when aligned,
    ``NAME.aligned.png``; the rows of all go to ``latents.safetensors``, last, also when the caller stops early, beside
    the rows that earlier runs have left there.
    Raises OutputError before anything is done when that cannot be written, see ``files.claim``.
    """
    kinds = PICTURES | ({"aligned": ".aligned.png"} if align else {})

    def results() -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        return session.invert_many(photos, align, _checked(batch), refine)

    return _written(out, photos, kinds, results, [], overwrite)


def translate_into(
    out: Path, photos: Sequence[Photo], session: Session, request: Request, *, batch: int = 1, overwrite: bool = False
) -> Outcomes:
    """Do to pictures what ``request`` asks for, into a folder, one outcome each.

    A picture NAME gives ``NAME.png``, ``NAME.pair.png`` (what the encoder saw beside it) and, with samples,
    ``NAME.samples.png`` (the pair, then the samples); rows as ``invert_into``, those of samples [n k d] as
    ``NAME.samples``. Raises as ``invert_into`` does.
    """
    kinds = PICTURES | ({"sheet": ".samples.png"} if request.samples else {})

    def results() -> Iterator[tuple[Photo, Result | Pixel2StyleError]]:
        return session.translate_many(photos, request, _checked(batch))

    masks = [request.mask_file] if request.mask_file else []
    return _written(out, photos, kinds, results, masks, overwrite)


def _written(
    out: Path,
    photos: Sequence[Photo],
    kinds: Mapping[str, str],
    results: Callable[[], Iterator[tuple[Photo, Result | Pixel2StyleError]]],
    others: Sequence[Path],
    overwrite: bool,
) -> Outcomes:
    """Write ``kinds`` of pictures (see ``PICTURES``) and rows; ``others`` are not replaced either."""
    files = {photo: {kind: out / (photo.name + end) for kind, end in kinds.items()} for photo in photos}
    targets = [file for own in files.values() for file in own.values()]
    claim(out, targets, [*(photo.path for photo in photos), *others], overwrite)
    earlier, latents = rows_in(out / LATENTS), dict[str, Tensor]()
    try:
        for photo, result in results():
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
            yield Outcome(photo, files[photo])
    finally:
        if latents:
            checkpoints.save_tensors(earlier | latents, out / LATENTS)


def _save(result: Result, files: Mapping[str, Path]) -> None:
    """Write pictures of one result, several at a time: packing one is work for one processor. Raises OutputError."""
    with ThreadPoolExecutor() as threads:
        saved = [threads.submit(_save_one, result, kind, file) for kind, file in files.items()]
    for one in saved:
        one.result()


def _save_one(result: Result, kind: str, file: Path) -> None:
    images.save(getattr(result, kind), file)


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

    Raises OutputError before anything is done, see ``files.claim``.
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
    claim(out.parent, [out], [], overwrite)
    return checkpoints.convert(file, out, to)


def _checked(batch: int) -> int:
    if batch < 1:
        raise ConfigError(f"a batch holds at least one photograph, not {batch}: pass --batch 1 or more")
    return batch
