"""What the tabs share: errors as sentences, photographs and drawings that come in, pictures and files that go out."""

import contextlib
import functools
import inspect
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from PIL import Image

from .. import images
from ..errors import NoFaceError, Pixel2StyleError
from ..inference.work import Work

HERE = Path(__file__).parent
KEPT = 3600
"""Seconds after which uploads, results and what a visitor works on are deleted."""
SEEN: "WeakKeyDictionary[Work, str]" = WeakKeyDictionary()
"""The files of faces before changes."""
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
"""Options of events that are quick."""
ONE = {"concurrency_id": "compute", "api_visibility": "private"}
"""Options of events that compute: one at a time."""
LIVE = {**ONE, **QUIET, "trigger_mode": "always_last"}
"""Options of events while something moves: of those that wait, only the last is kept."""


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Show the user's mistakes in the page."""
    try:
        yield
    except NoFaceError:
        sentence = "No face was found: choose another picture, or tick Already cropped."
        raise gr.Error(sentence, print_exception=False) from None
    except Pixel2StyleError as error:
        raise gr.Error(plain(str(error)), print_exception=False) from None


def plain(sentence: str) -> str:
    """A sentence for the command line as one for the page: without folders of this machine and dashes of options."""
    sentence = re.sub(re.escape(str(folder())) + r"\S*/", "", sentence)
    sentence = re.sub(r"--([a-z][\w-]*)", lambda found: found[1].replace("-", " "), sentence)
    named = "." in sentence.partition(" ")[0]  # a file's name stays as it is
    return (sentence if named else sentence[:1].upper() + sentence[1:]) + "."


def said(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose Pixel2StyleErrors are sentences in the page."""

    @functools.wraps(function)
    def steps(*given: Any) -> Iterator[Any]:
        with sentences():
            yield from function(*given)

    @functools.wraps(function)
    def once(*given: Any) -> Any:
        with sentences():
            return function(*given)

    return steps if inspect.isgeneratorfunction(function) else once


def needed(given: Any, sentence: str = "Choose a photograph first.") -> Any:
    """``given``; where it is None, the sentence is shown in the page."""
    if given is None:
        raise gr.Error(sentence, print_exception=False)
    return given


def chooser(names: Sequence[str], closed: bool) -> gr.Dropdown:
    """A choice among models. Unless it is ``closed``, also any file of this machine or address."""
    seen = len(names) > 1 or not closed
    return gr.Dropdown(list(names), value=names[0], label="Model", allow_custom_value=not closed, visible=seen)


def photograph(label: str, **options: Any) -> gr.Image:
    """Where a photograph is dropped, taken or pasted. Handlers get its path: ``images`` alone reads files."""
    found = gr.Image(label=label, type="filepath", sources=["upload", "webcam", "clipboard"], buttons=[], **options)
    found.preprocess = lambda payload: payload and payload.path
    return found


def canvas(label: str, pens: Mapping[str, str], brush: int, paper: str = "", side: int = 256) -> Any:
    """Where visitors draw: its value is a PNG of ``side`` pixels as text, see ``inference.drawings``.

    ``pens`` are colours by name, "" erases. ``paper`` is the colour of the empty sheet; without one it is transparent
    and lies on the picture in the property ``under``.
    """
    buttons = "".join(
        f'<button type="button" data-colour="{colour}" aria-label="{name}" title="{name}" aria-pressed="{not at}" '
        f'style="background: {colour}">{"" if colour else name}</button>'
        for at, (name, colour) in enumerate(pens.items())
    )
    buttons += "".join(
        f'<button type="button" data-tool="{name}">{name}</button>' for name in ("Fill", "Undo", "Clear")
    )
    html = (HERE / "canvas.html").read_text(encoding="utf-8")
    for name, value in (("LABEL", label), ("SIDE", side), ("BUTTONS", buttons), ("MOST", side // 5), ("BRUSH", brush)):
        html = html.replace(name, str(value))
    script = (HERE / "canvas.js").read_text(encoding="utf-8")
    return gr.HTML("", label=label, html_template=html, js_on_load=script, side=side, paper=paper, under="")


def shown(picture: Image.Image) -> str:
    """A file of a picture for the page, under a name that nobody can guess."""
    path = folder() / f"{secrets.token_hex(16)}.jpg"
    images.save(picture, path)
    return str(path)


def both(work: Work, after: Image.Image | None = None) -> tuple[str, str]:
    """The face before, written once, and after all changes, or a picture of it, for the page."""
    if work not in SEEN or not Path(SEEN[work]).exists():
        SEEN[work] = shown(work.seen)
    return SEEN[work], shown(work.now.reconstruction if after is None else after)


def saving(work: gr.State) -> None:
    """A button that makes files of what a visitor works on, and their list."""

    def made(found: Work | None) -> gr.File:
        return gr.File([str(file) for file in needed(found).files(folder() / secrets.token_hex(16))], visible=True)

    button = gr.Button("Make files to download")
    button.click(said(made), work, gr.File(label="Files", file_count="multiple", visible=False), **ONE)


def folder() -> Path:
    """Where uploads and results lie."""
    return Path(os.environ["GRADIO_TEMP_DIR"])
