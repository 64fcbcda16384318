"""A face that is being worked on: what was made of a photograph, how it was changed since, and what can be undone.

For programs in which somebody changes a face step by step; ``session.py`` does the work.

Axes: ``n`` variants, ``k`` rows, ``d`` width of a row.
"""

import queue
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import checkpoints, images
from ..editing.directions import Direction
from ..editing.latents import Rows, mix
from ..errors import ConfigError, Pixel2StyleError
from ..faces.align import Choice
from ..metrics import parsing
from ..runtime import Device, Precision
from ..tasks.label_maps import snapped
from ..tasks.pencils import Pen
from ..tasks.request import Frame, Photograph, Request
from . import edit, prepare
from .drawings import label_map, sketched
from .optimize import Progress
from .session import Result, Session

MOST_UNDONE = 12
"""Changes that can be undone; each may hold the features of a painted face, 10 MB."""
EVERY = 1.5
"""Seconds between the pictures of a refinement."""
PEN = 32
"""Alpha from which a pixel counts as painted."""
MOST_PIXELS = 24_000_000
"""Of a photograph: several people's may be in memory at once."""
CARRIED = 0.8
"""Share of what the last picture of a drawing changed to follow it that the next one begins with."""
MAPS = "segmentation"
"""The task whose drawings are label maps."""
Amounts = Mapping[str, float]
"""How far to go along directions, by their names, in their units."""


class Sessions:
    """Sessions of several models, ``most`` of them loaded: the one not used for longest makes room for another.

    ``given`` are names, files and addresses of models beside the bundled ones. Raises what loading them raises.
    """

    def __init__(
        self, given: Sequence[str] = (), device: Device = "auto", precision: Precision = "auto", most: int = 5
    ):
        self._device, self._precision, self._most = device, precision, most
        self._loaded: OrderedDict[str, Session] = OrderedDict()
        self._given: dict[str, list[str]] = {}
        for name in given:
            self._given.setdefault(self[name].model.config.task, []).append(name)

    def __getitem__(self, name: str) -> Session:
        found = self._loaded.pop(name, None) or Session(name, self._device, self._precision)
        self._loaded[name] = found
        while len(self._loaded) > self._most:
            self._loaded.popitem(last=False)
        return found

    def names(self, task: str) -> list[str]:
        """The models of a task: those that were given, then the bundled one."""
        try:
            return [*self._given.get(task, ()), prepare.model_for(task)]
        except Pixel2StyleError:
            return list(self._given.get(task, ()))


@dataclass(eq=False)
class Work:
    """``result`` of the photograph ``photo``, and ``now``, the same after all changes; neither holds the photograph.

    ``frame`` says where the face lies in it (None: nowhere), ``seen`` is the face before. ``base`` ``[k d]`` are the
    rows before the directions, ``amounts`` how far these were followed, ``only`` the region that changes, ``painted``
    whether ``result`` has paint in it.
    """

    session: Session
    photo: Path
    result: Result
    frame: Frame | None
    seen: Image.Image
    base: Tensor
    now: Result
    align: bool = True
    face: Choice | None = None
    amounts: Amounts = field(default_factory=dict)
    only: str | None = None
    variants: Tensor | None = None
    painted: bool = False
    _past: list[tuple[Result, Tensor, Amounts, bool]] = field(default_factory=list)
    _mixture: tuple[Path, Rows, Tensor, Tensor] | None = None
    """The last one: of what, in which rows, the rows before and after it."""
    _others: dict[Path, Tensor] = field(default_factory=dict)
    _known: Mapping[str, Direction] = field(default_factory=dict)

    @classmethod
    def invert(cls, session: Session, photo: Path, align: bool = True, face: Choice | None = None) -> "Work":
        """The inversion of a photograph; raises as ``Session.invert``, and ImageError above ``MOST_PIXELS``."""
        result = session.invert(images.load(photo, MOST_PIXELS), align, face=face)
        return cls._of(session, photo, result, align, face)

    @classmethod
    def translate(
        cls, session: Session, photo: Path, align: bool = True, mask: Image.Image | None = None,
        keep_known: bool = False, samples: int = 0,
    ) -> "Work":  # fmt: skip
        """The translation of a photograph; raises as ``Session.translate``. ``mask`` is one of the aligned face."""
        picture = images.load(photo, MOST_PIXELS)
        if mask is None:
            return cls._of(session, photo, session.translate(picture, align, samples=samples), align, None)
        if mask.getbbox() is None:
            raise ConfigError("nothing is painted: draw on the face first")
        frame = session.frame(picture, align)
        face = frame.cut(picture, session.model.generator.size)
        result = session.translate(face, False, mask=mask, keep_known=keep_known, samples=samples)
        return replace(cls._of(session, photo, result, align, None), frame=frame, seen=face)

    @classmethod
    def _of(cls, session: Session, photo: Path, result: Result, align: bool, face: Choice | None) -> "Work":
        frame = None if result.photograph is None else result.photograph.frame
        own = replace(result, photograph=None)
        known = edit.bundled(session.model.generator)
        return cls(session, photo, own, frame, result.aligned, result.ws, own, align, face, _known=known)

    def preview(self, amounts: Amounts, size: int) -> Image.Image:
        """The face moved by ``amounts``, drawn at ``size``; nothing is changed."""
        return self.session.edit(self.result, self._moved(self.base, amounts), only=self.only, size=size).reconstruction

    def move(self, amounts: Amounts) -> None:
        """Move the face by ``amounts``, instead of those before. Raises ConfigError for an unknown direction."""
        self._change(self.result, self.base, amounts)

    def limit(self, only: str | None) -> None:
        """Change only a region from now on (``editing.regions.NAMES``), None for the whole face.

        Raises ConfigError, and changes nothing, for another name and for a model of wide pictures.
        """
        before, self.only = self.only, only
        try:
            self._draw()
        except Pixel2StyleError:
            self.only = before
            raise

    def undo(self) -> None:
        """Take the last change back, if there is one."""
        if self._past:
            self.result, self.base, self.amounts, self.painted = self._past.pop()
            self._draw()

    def reset(self) -> None:
        """Go back to the inversion's own rows."""
        self._change(self.result, self.result.ws, {})

    def paint(self, layer: Image.Image) -> None:
        """Make a part of the face of what is painted on it: RGBA, opaque where it is painted. The changes are kept in.

        Raises ConfigError where nothing is painted.
        """
        alpha = layer.convert("RGBA").getchannel("A").point(lambda level: 255 * (level >= PEN))
        if alpha.getbbox() is None:
            raise ConfigError("nothing is painted: draw on the face first")
        painted = self.now.reconstruction.resize(layer.size, Image.Resampling.LANCZOS)
        painted.paste(layer.convert("RGB"), mask=alpha)
        mask = images.to_mask(alpha)
        found = self.session.paint(replace(self.now, samples=()), painted, mask)
        self._change(found, found.ws, {}, painted=True)

    def mix(self, other: Path, rows: Rows, share: float) -> None:
        """Take a share of ``rows`` from another photograph, whose largest face is used.

        Another share of the same replaces the one before. Rows are those that ``pixel2style mix`` takes: they are found
        with features, for which a detail encoder may move them.
        """
        if other not in self._others:
            self._others = {other: self.session.invert(images.load(other, MOST_PIXELS)).ws}
        start, last = self.base, self._mixture
        if last is not None and last[:2] == (other, rows) and self.base is last[3]:
            start = last[2]
        mixed = edit.mixed(start, self._others[other][None], [1.0], rows, share)
        self._change(self.result, mixed, self.amounts)
        self._mixture = other, rows, start, mixed

    def vary(self, rows: str, count: int, seed: int, size: int) -> tuple[Image.Image, ...]:
        """Faces with ``rows`` drawn anew, for ``take`` to go on with."""
        request = Request(self.session.model.config.task, samples=count, rows=rows, seed=seed)
        self.variants = prepare.resampled(self.base, self.session.model.generator, request)
        every = torch.stack([self._moved(one, self.amounts) for one in self.variants])
        return self.session.edit(self.result, every[0], every, only=self.only, size=size).samples

    def take(self, index: int) -> None:
        """Go on with a variant."""
        if self.variants is None or not 0 <= index < len(self.variants):
            raise ConfigError(f"there is no variant {index}: draw some first")
        self._change(self.result, self.variants[index], self.amounts)

    def sample(self, index: int) -> None:
        """Show a sample of a translation, from 0, or its result (-1)."""
        self.now, own = self.result, self.result
        if index >= 0 and own.sample_ws is not None:
            self.now = replace(own, reconstruction=own.samples[index], ws=own.sample_ws[index])

    def refine(self, seconds: float) -> Iterator[tuple[Image.Image, str]]:
        """Bring the inversion closer to its photograph for this time; then repeat the changes on it.

        Yields pictures of the state and words on it while it works. Raises ConfigError for a face with paint in it,
        which is not in the photograph.
        """
        if self.painted:
            raise ConfigError("what was painted would be lost: undo it, refine, and paint then")
        states: queue.Queue[tuple[Image.Image, str] | None] = queue.Queue()
        begun = last = time.monotonic()

        def watch(progress: Progress) -> None:
            nonlocal last
            if time.monotonic() - last > EVERY:
                own = progress.inversion.part(0)
                picture = self.session.picture(own.ws[0], {side: part[0] for side, part in own.features.items()})
                last = time.monotonic()
                states.put((picture, f"{last - begun:.0f} s: LPIPS {float(progress.values.lpips):.3f}"))

        def run() -> Result:
            photo = images.load(self.photo, MOST_PIXELS)
            return self.session.invert(photo, self.align, face=self.face, budget=seconds, watch=watch)

        with ThreadPoolExecutor(1) as threads:
            found = threads.submit(run)
            found.add_done_callback(lambda _: states.put(None))
            while (state := states.get()) is not None:
                yield state
        result = replace(found.result(), photograph=None)
        self._change(result, result.ws if self.base is self.result.ws else self.base, self.amounts)

    def about(self) -> str:
        """How close the inversion is, in words."""
        close = self.session.fidelity(self.result)
        same = "" if close.identity is None else f"identity {close.identity:.3f} of 1, "
        warning = " It is far from the faces that were learnt, so edits may not work." if self.result.far else ""
        return f"How close the drawn face is: {same}LPIPS {close.lpips:.3f} (less is closer).{warning}"

    def files(self, folder: Path) -> list[Path]:
        """Write the face, its rows and, where there still is one, the whole photograph with the face put back."""
        made = {"face.png": self.now.reconstruction}
        if self.frame is not None and self.photo.exists():
            whole = Photograph(images.load(self.photo, MOST_PIXELS), self.frame, self.photo)
            made["photograph.png"] = self.session.pasted(replace(self.now, aligned=self.seen, photograph=whole))
        for name, picture in made.items():
            images.save(picture, folder / name)
        checkpoints.save_tensors({"face": self.now.ws}, folder / "latents.safetensors")
        return [folder / name for name in (*made, "latents.safetensors")]

    def _moved(self, base: Tensor, amounts: Amounts) -> Tensor:
        unknown = [name for name, amount in amounts.items() if amount and name not in self._known]
        if unknown:
            raise ConfigError(f"no direction {unknown[0]} of this model's generator is bundled: choose another model")
        return edit.edited(base, [edit.Move(self._known[name], amount) for name, amount in amounts.items() if amount])

    def _change(self, result: Result, base: Tensor, amounts: Amounts, painted: bool | None = None) -> None:
        before = self.result, self.base, self.amounts, self.painted
        self.result, self.base, self.amounts = result, base, dict(amounts)
        self.painted = self.painted if painted is None else painted
        try:
            self._draw()
        except Pixel2StyleError:
            self.result, self.base, self.amounts, self.painted = before
            raise
        self._past = [*self._past, before][-MOST_UNDONE:]

    def _draw(self) -> None:
        unchanged = self.base is self.result.ws and not any(self.amounts.values())
        self.now = (
            self.result
            if unchanged
            else self.session.edit(self.result, self._moved(self.base, self.amounts), only=self.only)
        )


@dataclass
class Drawing:
    """A face that follows a drawing, whose rows are ``own`` ``[k d]``, as the encoder reads them.

    ``look`` ``[k d]`` are rows that the face keeps a share of, whatever is drawn. ``followed`` are
    the rows of the last picture at full size, and what was added for it to follow the drawing closely. Previews, which
    have no time for that, get the same, and the next picture goes on from a share of it, unless the drawing or the look
    has become another one.
    """

    session: Session
    own: Tensor | None = None
    followed: tuple[Tensor, Tensor] | None = None
    look: Tensor | None = None
    looks: Tensor | None = None
    """Those of the last variants, ``[n k d]``."""
    drawn: str = ""
    """What the last picture at full size was made of, as the caller names it."""

    def follow(self, sheet: Image.Image, size: int | None = None) -> Image.Image:
        """The face of what is drawn on a sheet: at full size, or a preview that is ``size`` pixels wide.

        Raises as ``Session.rows`` does. On the sheet of a label map colours are those of ``parsing.PALETTE``, or near
        them.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sheet.png"
            maps = self.session.model.config.task == MAPS
            images.save(snapped(sheet, parsing.PALETTE) if maps else sheet.convert("L"), path)
            self.own = self.session.rows(path)
            ws = self.own if self.look is None else mix(self.own[None], self.look[None], *self._variation)[0]
            if size is None:
                near = self._near(ws)
                start = ws if near is None else ws + CARRIED * near
                followed = self.session.following(path, start, None if near is None else 1)
                self.followed = ws, followed - ws
        return self.session.picture(self._closer(ws), size=size)

    def vary(self, count: int, seed: int, size: int) -> list[Image.Image]:
        """Faces of the same drawing with other looks, for ``keep`` to choose from. Raises ConfigError before one."""
        if self.own is None:
            raise ConfigError("there is no face to vary: draw one first")
        self.looks = prepare.looks(self.session.model.generator, count, seed)
        varied = mix(self.own[None], self.looks, *self._variation)
        return [self.session.picture(self._closer(one), size=size) for one in varied]

    def keep(self, index: int | None) -> None:
        """Keep the look of a variant from now on, or that of the drawing (None)."""
        self.look, self.drawn = None if index is None or self.looks is None else self.looks[index], ""

    @staticmethod
    def sheet(session: Session, photo: Path, side: int) -> Image.Image:
        """A photograph's face as a sheet to go on with, RGB. Raises ImageError, NoFaceError."""
        face = session.prepare(images.load(photo, MOST_PIXELS))
        if session.model.config.task == MAPS:
            return label_map(face).resize((side, side), Image.Resampling.NEAREST).convert("RGB")
        return sketched(face, Pen()).resize((side, side), Image.Resampling.LANCZOS).convert("RGB")

    def _closer(self, ws: Tensor) -> Tensor:
        near = self._near(ws)
        return ws if near is None else ws + near

    def _near(self, ws: Tensor) -> Tensor | None:
        """What following changed, if it changed more than the rows ``ws`` differ from those of then."""
        if self.followed is None:
            return None
        then, changed = self.followed
        return changed if torch.dist(ws, then) < changed.norm() else None

    @property
    def _variation(self) -> tuple[str, float]:
        return prepare.variation(Request(self.session.model.config.task))
