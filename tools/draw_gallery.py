"""Sheets of results of the bundled models on free pictures: ``python tools/draw_gallery.py --out docs/images/gallery``.

A sheet for every task, failures included, and crops of the 1024-pixel pictures, unscaled. Models are the bundled ones,
or those of ``--models superres=FILE``. With ``--through FILE...`` (or folders) it draws instead, for every task among
them, results of each file in turn on a few pictures: a run from its snapshots. Results come from ``Session``, as for
users.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from gallery_pictures import PICTURES
from pixel2style import NoFaceError, Session
from pixel2style.inference import prepare
from sheets import Row, Tile, save, sheet

STRIP = ("astronaut", "coelho")
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "invert": ("invert", {}),
    "superres": ("superres, from 16 x 16 pixels", {"factor": 16}),
    "inpaint": ("inpaint", {"mask": "strokes", "seed": 2}),
    "frontalize": ("frontalize", {}),
}
"""The README's strip: words above and options of one example for each bundled task."""
MASKS = {"box": 4, "half": 1, "strokes": 2}
"""The masks of the inpainting sheet, each with a seed that hides much of a face."""
FACTORS = (8, 16, 32)
FEW = ("astronaut", "hopper", "coelho", "camera", "dark-skin", "child")
"""For tasks that need many columns."""
SIDEWAYS = ("coelho", "camera", "astronaut", "turned", "profile", "child", "dark-skin", "hopper")
SHARP = ("astronaut", "hopper", "coelho", "dark-skin-glasses")
REFINED = ("astronaut", "hopper", "coelho", "camera", "hat", "dark-skin")
STEPS = (0, 1, 5, 10)
"""Newton steps after the encoder."""
PIECES = {"eyes": (330, 400), "hair": (410, 60), "background": (20, 150)}
"""Left and top of the crops of 1024 pixels, in the order of columns."""
PIECE = 200
DRAWN = ("smile", "turned", "astronaut")
"""Drawings of ``tools/draw_drawings.py``, and a photograph that is drawn first."""
EXAMPLES_FOLDER = Path(__file__).parents[1] / "examples"
THROUGH = ("astronaut", "hopper", "dark-skin")
ASKED: dict[str, dict[str, Any]] = {"superres": {"factor": 16}, "inpaint": {"mask": "half", "seed": MASKS["half"]}}
"""Options of a task where there is room for one example."""


class Studio:
    """Models by task and pictures by name, each opened once, when it is first used."""

    def __init__(self, models: dict[str, str], only: Sequence[str] | None = None):
        self._models, self._only = models, only
        self._sessions: dict[str, Session] = {}
        self._opened: dict[str, Image.Image] = {}

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that are to be drawn."""
        return [name for name in names if self._only is None or name in self._only]

    def session(self, task: str) -> Session:
        """The model of a task. Raises CheckpointError where there is none."""
        if task not in self._sessions:
            self._sessions[task] = Session(self._models.get(task) or prepare.model_for(task))
        return self._sessions[task]

    def opened(self, name: str) -> Image.Image:
        """A picture before its face is cropped."""
        if name not in self._opened:
            self._opened[name] = PICTURES[name].open()
        return self._opened[name]

    def target(self, task: str, name: str) -> Tile:
        """The cropped face of a picture, or the words that no face was found."""
        try:
            return self.session(task).prepare(self.opened(name), PICTURES[name].align)
        except NoFaceError:
            return "no face\nfound"

    def pair(self, task: str, name: str, **asked: Any) -> tuple[Tile, Tile]:
        """The encoder's input and the result, or the words that no face was found."""
        try:
            result = self.session(task).translate(self.opened(name), PICTURES[name].align, **asked)
        except NoFaceError:
            return ImageOps.pad(self.opened(name), (256, 256), color="white"), "no face\nfound"
        return result.aligned, result.reconstruction


def pairs(studio: Studio, task: str, names: Sequence[str], columns: int) -> list[Row]:
    """Source and output of pictures, several in a row."""
    tiles: Row = []
    for name in studio.chosen(names):
        source, output = studio.pair(task, name)
        tiles += [(PICTURES[name].words, source), ("", output)]
    return [tiles[start : start + 2 * columns] for start in range(0, len(tiles), 2 * columns)]


def tasks(studio: Studio) -> list[Row]:
    """One example of each bundled task: source and output."""
    rows = []
    for name in studio.chosen(STRIP):
        row: Row = []
        for task, (words, options) in EXAMPLES.items():
            source, output = studio.pair(task, name, **options)
            row += [(words, source), ("", output)]
        rows.append(row)
    return rows


def superres(studio: Studio) -> list[Row]:
    """Source and output by factor, then the target."""
    rows = []
    for name in studio.chosen(FEW):
        row: Row = []
        for factor in FACTORS:
            source, output = studio.pair("superres", name, factor=factor)
            row += [(f"reduced {factor} times", source), ("enlarged", output)]
        rows.append([*row, (name, studio.target("superres", name))])
    return rows


def inpaint(studio: Studio) -> list[Row]:
    """Source, output and output with the known pixels put back, by mask, then the target."""
    rows = []
    for name in studio.chosen(FEW):
        row: Row = []
        for mask, seed in MASKS.items():
            source, output = studio.pair("inpaint", name, mask=mask, seed=seed)
            kept = studio.pair("inpaint", name, mask=mask, seed=seed, keep_known=True)[1]
            row += [(mask, source), ("filled", output), ("known kept", kept)]
        rows.append([*row, (name, studio.target("inpaint", name))])
    return rows


def refined(studio: Studio) -> list[Row]:
    """Source, then the inversion after so many steps of ``--refine``."""
    rows = []
    for name in studio.chosen(REFINED):
        row: Row = [(name, studio.target("invert", name))]
        rows.append(row + [(f"--refine {steps}", studio.pair("invert", name, refine=steps)[1]) for steps in STEPS])
    return rows


def pieces(studio: Studio, task: str, names: Sequence[str], **asked: Any) -> list[Row]:
    """Unscaled crops of eyes, hair and background, of the target and of the output."""
    rows = []
    for name in studio.chosen(names):
        target, output = studio.target(task, name), studio.pair(task, name, **asked)[1]
        row: Row = []
        for words, (left, top) in PIECES.items():
            for who, tile in ((words, target), (task, output)):
                box = (left, top, left + PIECE, top + PIECE)
                row.append((f"{name}: {who}", tile if isinstance(tile, str) else tile.crop(box)))
        rows.append(row)
    return rows


def drawings(studio: Studio) -> list[Row]:
    """Drawings by a program and of a photograph: the input, the result, samples, and with a photograph's colours."""
    rows: list[Row] = []
    for task, end in (("sketch", "sketch"), ("segmentation", "labels")):
        for name in DRAWN:
            first: dict[str, Any] = {"make_sketch": "lines"} if task == "sketch" else {"make_labels": True}
            made = first if name == "astronaut" else {}
            file = EXAMPLES_FOLDER / (f"{name}.png" if made else f"drawings/{name}.{end}.png")
            result = studio.session(task).translate(file, samples=3, seed=1, **made)
            like = studio.session(task).translate(file, like=EXAMPLES_FOLDER / "gallery" / "hopper.jpg", **made)
            tiles = (result.aligned, result.reconstruction, *result.samples, like.reconstruction)
            words = (name, "result", "sample", "sample", "sample", "like hopper")
            rows.append(list(zip(words, tiles, strict=True)))
    return rows


SHEETS: dict[str, tuple[int, Callable[[Studio], list[Row]]]] = {
    "tasks": (148, tasks),
    "invert": (144, lambda studio: pairs(studio, "invert", tuple(PICTURES), 4)),
    "refine": (180, refined),
    "superres": (160, superres),
    "inpaint": (116, inpaint),
    "frontalize": (160, lambda studio: pairs(studio, "frontalize", SIDEWAYS, 4)),
    "drawings": (100, drawings),
    "pixels-invert": (PIECE, lambda studio: pieces(studio, "invert", SHARP)),
    "pixels-tasks": (
        PIECE,
        lambda studio: [
            *pieces(studio, "superres", SHARP[:2], factor=8),
            *pieces(studio, "inpaint", SHARP[:1], **ASKED["inpaint"], keep_known=True),
            *pieces(studio, "frontalize", SHARP[2:3]),
        ],
    ),
}
"""By name, the side of a tile and the rows."""


def through(files: Sequence[tuple[str, Path]], studio: Studio) -> dict[str, list[Row]]:
    """By task: a row for each picture, a column for each file (words and file), in the order given."""
    sheets: dict[str, list[Row]] = {}
    for words, file in files:
        task = Session(file).model.config.task
        here, asked = Studio({task: str(file)}), ASKED.get(task, {})
        names = studio.chosen(THROUGH)
        rows = sheets.setdefault(task, [[("shown", here.pair(task, name, **asked)[0])] for name in names])
        for row, name in zip(rows, names, strict=True):
            row.append((words, here.pair(task, name, **asked)[1]))
    return sheets


def files_of(words: Sequence[str]) -> list[tuple[str, Path]]:
    """Files, and the models in folders by name, with their words: those of ``WORDS=FILE``, or the step."""
    found = []
    for word in words:
        said, _, path = word.rpartition("=")
        inside = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else [Path(path)]
        found += [(said or label(file), file) for file in inside]
    return found


def label(file: Path) -> str:
    """The run and, in a snapshot's name, the step: ``inpaint-long-state-00000500`` is "inpaint-long 500"."""
    found = re.fullmatch(r"(.+)-state-0*(\d+)", file.stem)
    return f"{found[1]} {found[2]}" if found else f"{file.parent.name} {file.stem}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=[], metavar="TASK=MODEL", help="a bundled name or a file")
    parser.add_argument("--sheets", nargs="+", choices=list(SHEETS), default=list(SHEETS))
    parser.add_argument("--pictures", nargs="+", choices=list(PICTURES), metavar="NAME", help="all, unless named")
    parser.add_argument("--through", nargs="+", default=[], metavar="[WORDS=]FILE", help="snapshots, in order")
    given = parser.parse_args(arguments)
    studio = Studio(dict(word.split("=", 1) for word in given.models), given.pictures)
    if given.through:
        for task, rows in through(files_of(given.through), studio).items():
            save(sheet(rows, 160), given.out / f"through-{task}.jpg")
        return
    for name in given.sheets:
        side, rows_of = SHEETS[name]
        save(sheet(rows_of(studio), side), given.out / f"{name}.jpg")


if __name__ == "__main__":
    main()
