"""``pixel2style find-directions``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from . import progress, terminal
from .arguments import Device, Flag, Folder

if TYPE_CHECKING:
    from torch import Tensor

    from ..inference.session import Session
    from ..photos import Photo


FACES, LATENTS = 2_000, 100_000
"""Generated faces that are scored, and latents for ganspace, where --samples is not given."""
COUNT = 5
"""Directions of ganspace and sefa, where --count is not given."""


def find_directions(
    *,
    out: Folder,
    method: Literal["svm", "regression", "examples", "ganspace", "sefa"] = "svm",
    scores: Annotated[str | None, tyro.conf.arg(metavar="FILE.csv|NAME,...", help_behavior_hint="")] = None,
    hold: Annotated[str, tyro.conf.arg(metavar="NAME,...", help_behavior_hint="")] = "",
    present: Annotated[
        tuple[str, ...],
        tyro.conf.arg(name="with", metavar="PHOTO|FOLDER", help_behavior_hint=""),
        tyro.conf.UseAppendAction,
    ] = (),
    absent: Annotated[
        tuple[str, ...],
        tyro.conf.arg(name="without", metavar="PHOTO|FOLDER", help_behavior_hint=""),
        tyro.conf.UseAppendAction,
    ] = (),
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: examples)")] = None,
    rows: Annotated[str, tyro.conf.arg(metavar="ROWS")] = "0-",
    count: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: 5)")] = None,
    samples: Annotated[
        int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: 2000; ganspace 100000)")
    ] = None,
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0,
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "faces",
    device: Device = "auto",
    overwrite: Flag = False,
) -> int:
    """Find directions for edits: from scores of photographs, from examples, or from the generator alone.

    pixel2style find-directions --scores beards.csv --out mine                   photographs and their scores
    pixel2style find-directions --scores age,male --hold male --out mine         generated faces, bundled scores
    pixel2style find-directions --method examples --with curls --without straight --name curls --out mine
    pixel2style find-directions --method ganspace --count 10 --model GENERATOR --out mine

    DIR receives NAME.safetensors for each; pixel2style edit takes them: --set mine/beard.safetensors=2.

    Args:
        out: Folder for the results; created if it does not exist.
        method: svm: the boundary between low and high scores. regression: the change with one score while the others
            stay. examples: from photographs without something to those with it. ganspace, sefa: what changes pictures
            most, by samples of W or by the generator's weights.
        scores: For svm and regression: a table with a first line file,NAME,NAME and a line for each photograph; or
            bundled scores of generated faces: age, male, happy, sad, angry, surprised, ....
        hold: Scores that directions are not to change, and that get none.
        present: For examples: photographs that show it.
        absent: For examples: photographs that do not.
        name: For examples: what it is called.
        rows: Which rows the directions are meant for: early ones are pose and shape, late ones colour.
        count: For ganspace and sefa: how many.
        samples: How many latents (ganspace) or generated faces (bundled scores).
        seed: Determines which latents are sampled.
        model: A model or a generator: a bundled one, one of our files, or a published checkpoint. Photographs need one
            with an encoder.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        overwrite: Replace results of an earlier run instead of refusing.
    """
    from ..errors import ConfigError

    scored = method in ("svm", "regression")
    if scored != (scores is not None):
        raise ConfigError(
            f"--method {method} needs --scores: a CSV file, or bundled ones such as age,male"
            if scored
            else f"--scores are for svm and regression: leave them out of {method}"
        )
    if hold and not scored:
        raise ConfigError(f"--hold is for svm and regression: leave it out of {method}")
    examples = method == "examples"
    if examples != bool(present) or examples != bool(absent):
        raise ConfigError("--with and --without are photographs for --method examples, which needs both")
    for option, value, meant in (
        ("--name", name, examples),
        ("--count", count, not scored and not examples),
        ("--samples", samples, method == "ganspace" or (scored and not _is_table(scores))),
    ):
        if value is not None and not meant:
            raise ConfigError(f"{option} does nothing with what directions are found from here: leave it out")
    own_name, many = name or "examples", COUNT if count is None else count
    with terminal.importing():
        import torch

        from .. import checkpoints, photos
        from ..editing import directions
        from ..editing.latents import parse_rows
        from ..files import claim
        from ..generators.sampling import seeded
        from ..inference import find_directions as finder
        from ..inference.session import Session
        from ..runtime import choose_device

    seeded(seed)
    table = finder.Table.read(Path(scores)) if scores is not None and _is_table(scores) else None
    names = [own_name] if examples else [f"{method}{number}" for number in range(1, many + 1)]
    held = _words(hold)
    if scored:
        every = _words(scores or "") if table is None else list(table.scores)
        names = finder.wanted(every, held)
    paths = {own: out / f"{own.replace('/', '-')}.safetensors" for own in names}
    claim(out, list(paths.values()), [], overwrite)
    if table is not None:
        session = Session(model, device)
        parse_rows(rows, session.model.generator.rows)
        given = [photos.Photo(file, str(line), file.parent) for line, file in enumerate(table.files)]
        found = _encoded(session, given)
        ws, values = torch.stack(list(found.values())), table.values([int(photo.name) for photo in found])
        made = finder.from_scores(ws, values, list(table.scores), session.model.generator, method, rows, held)
    elif examples:
        session = Session(model, device)
        parse_rows(rows, session.model.generator.rows)
        both = [torch.stack(list(_encoded(session, photos.find(words)).values())) for words in (present, absent)]
        made = iter([finder.from_examples(both[0], both[1], own_name, session.model.generator, rows)])
    else:
        generator = checkpoints.load_generator(checkpoints.find(model)).to(choose_device(device))
        parse_rows(rows, generator.rows)
        if scored:
            ws, values = finder.drawn_and_scored(generator, every, FACES if samples is None else samples, seed)
            made = finder.from_scores(ws, values, every, generator, method, rows, held)
        else:
            made = finder.from_generator(generator, method, many, rows, LATENTS if samples is None else samples, seed)
    for own in made:
        directions.save(own, paths[own.name])
        print(f"{own.name:<18} rows {own.rows:<5} unit {own.unit:<32} {paths[own.name]}")
    return 0


def _encoded(session: "Session", found: "list[Photo]") -> "dict[Photo, Tensor]":
    """Rows ``[k d]`` of photographs, with a note on those that have none."""
    from ..errors import complain
    from ..inference.find_directions import encoded

    return encoded(
        session,
        progress.with_bar(found, len(found)),
        lambda photo, error: complain(f"note: {photo.path} is left out: {error}"),
    )


def _is_table(scores: str | None) -> bool:
    """Whether ``--scores`` is a file."""
    return bool(scores and Path(scores).suffix)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
